package main

import (
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const kilnTitle = "Deployment/kiln"

func kilnContainer(manifests Manifests) (corev1.Container, bool) {
	deployment, exists := All[*appsv1.Deployment](manifests)[kilnTitle]
	if !exists {
		return corev1.Container{}, false
	}
	for _, container := range deployment.Spec.Template.Spec.Containers {
		if container.Name == "kiln" {
			return container, true
		}
	}
	return corev1.Container{}, false
}

// checkEnvironment asks the program what it makes of the manifest's environment and arguments.
func checkEnvironment(manifests Manifests, world *World, find Find) {
	container, exists := kilnContainer(manifests)
	if !exists {
		find(kilnTitle, "should exist, with a container kiln")
		return
	}
	config, err := world.Kiln.Config(container)
	if err != nil {
		find(kilnTitle, "container kiln: the program refuses its settings: %s", err)
		return
	}
	seen := map[string]bool{}
	for _, variable := range container.Env {
		if seen[variable.Name] {
			find(kilnTitle, "container kiln: env %s is there twice", variable.Name)
		}
		seen[variable.Name] = true
		if !config.Reads(variable.Name) && !slices.Contains(world.Kiln.Identity, variable.Name) {
			find(kilnTitle, "container kiln: env %s is nothing that kiln reads", variable.Name)
		}
	}
	for _, from := range container.EnvFrom {
		find(kilnTitle, "container kiln: envFrom hides which variables are set: name them (%s)", from.Prefix)
	}
	checkPlaces(container, config, find)
}

// checkPlaces: where the program listens and writes, the pod has a port and a volume.
func checkPlaces(container corev1.Container, config Config, find Find) {
	data := config.Value("--data-dir")
	mounted := func(mount corev1.VolumeMount) bool { return mount.MountPath == data }
	if !slices.ContainsFunc(container.VolumeMounts, mounted) {
		find(kilnTitle, "container kiln: volumeMounts: there should be one at --data-dir, %s", data)
	}
	ports := map[string]string{"http": config.Value("--port"), "admin": config.Value("--admin-port")}
	for name, number := range ports {
		port, has := portOf(intstr.FromString(name), container)
		if has != (number != "none") || has && number != fmt.Sprint(port) {
			find(kilnTitle, "container kiln: ports: %s should be where kiln listens: %s", name, number)
		}
	}
}

// An Identity is a variable that tells the program about its pod: where a manifest takes it from, and what we tell, to
// see whether it comes back.
type Identity struct {
	source corev1.EnvVarSource
	told   string
}

var identities = map[string]Identity{
	"POD_NAME":          {fieldOf("metadata.name"), "asked-pod"},
	"POD_NAMESPACE":     {fieldOf("metadata.namespace"), "asked-namespace"},
	"POD_IP":            {fieldOf("status.podIP"), "192.0.2.11"},
	"NODE_NAME":         {fieldOf("spec.nodeName"), "asked-node"},
	"NODE_IP":           {fieldOf("status.hostIP"), "192.0.2.12"},
	"NODE_ZONE":         {fieldOf("metadata.labels['topology.kubernetes.io/zone']"), "asked-zone"},
	"CPU_REQUEST_MILLI": {resourceOf("requests.cpu"), "1234"},
	"CPU_LIMIT_MILLI":   {resourceOf("limits.cpu"), "5678"},
}

func fieldOf(path string) corev1.EnvVarSource {
	return corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
}

func resourceOf(resource string) corev1.EnvVarSource {
	return corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: resource}}
}

func checkIdentity(manifests Manifests, world *World, find Find) {
	container, _ := kilnContainer(manifests)
	for _, name := range world.Kiln.Identity {
		at := slices.IndexFunc(container.Env, func(variable corev1.EnvVar) bool { return variable.Name == name })
		wanted := identities[name].source
		switch {
		case at < 0 || container.Env[at].ValueFrom == nil:
			find(kilnTitle, "container kiln: env %s should come from the downward API", name)
		case wanted.FieldRef != nil:
			if got := container.Env[at].ValueFrom.FieldRef; got == nil || got.FieldPath != wanted.FieldRef.FieldPath {
				find(kilnTitle, "container kiln: env %s should be the field %s", name, wanted.FieldRef.FieldPath)
			}
		default:
			got, resource := container.Env[at].ValueFrom.ResourceFieldRef, wanted.ResourceFieldRef.Resource
			if got == nil || got.Resource != resource || got.Divisor.String() != "1m" {
				find(kilnTitle, "container kiln: env %s should be the resource %s, with the divisor 1m", name, resource)
			}
		}
	}
}

// checkDrain: the pod must end by itself before the kubelet ends it.
func checkDrain(manifests Manifests, world *World, find Find) {
	container, exists := kilnContainer(manifests)
	if !exists {
		return
	}
	config, err := world.Kiln.Config(container)
	if err != nil {
		return // checkEnvironment tells
	}
	var drain time.Duration
	for _, flag := range []string{"--drain-delay", "--drain-timeout"} {
		part, err := time.ParseDuration(config.Value(flag))
		if err != nil {
			find(kilnTitle, "%s: %s", flag, err)
		}
		drain += part
	}
	grace := All[*appsv1.Deployment](manifests)[kilnTitle].Spec.Template.Spec.TerminationGracePeriodSeconds
	if grace == nil {
		find(kilnTitle, "spec.template.spec.terminationGracePeriodSeconds should be set")
	} else if given := time.Duration(*grace) * time.Second; drain >= given {
		find(kilnTitle, "terminationGracePeriodSeconds, %s, should be more than --drain-delay + --drain-timeout, %s",
			given, drain)
	}
}
