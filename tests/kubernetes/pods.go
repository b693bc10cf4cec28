package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// A Workload is whatever makes pods.
type Workload struct {
	Title    string
	Template *corev1.PodTemplateSpec
	Selector *metav1.LabelSelector // none for a Job, which makes its own
	Claims   []corev1.PersistentVolumeClaim
	RunsOn   bool // it serves until it is told to stop; a Job ends by itself
}

func Workloads(manifests Manifests) []Workload {
	var all []Workload
	for _, object := range manifests.Objects {
		workload := Workload{Title: object.Title, RunsOn: true}
		switch typed := object.Typed.(type) {
		case *appsv1.Deployment:
			workload.Template, workload.Selector = &typed.Spec.Template, typed.Spec.Selector
		case *appsv1.DaemonSet:
			workload.Template, workload.Selector = &typed.Spec.Template, typed.Spec.Selector
		case *appsv1.StatefulSet:
			workload.Template, workload.Selector = &typed.Spec.Template, typed.Spec.Selector
			workload.Claims = typed.Spec.VolumeClaimTemplates
		case *batchv1.Job:
			workload.Template, workload.RunsOn = &typed.Spec.Template, false
		default:
			continue
		}
		all = append(all, workload)
	}
	return all
}

func (workload Workload) Containers() []corev1.Container {
	return slices.Concat(workload.Template.Spec.InitContainers, workload.Template.Spec.Containers)
}

func labelSet(set map[string]string) labels.Set { return labels.Set(set) }

// checkPodSecurity asks the API server's own admission library, for the oldest version we promise and the newest.
func checkPodSecurity(manifests Manifests, _ *World, find Find) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks())
	if err != nil {
		find("pod security", "%s", err)
		return
	}
	for _, version := range []api.Version{api.MajorMinorVersion(1, 25), api.LatestVersion()} {
		restricted := api.LevelVersion{Level: api.LevelRestricted, Version: version}
		for _, workload := range Workloads(manifests) {
			results := evaluator.EvaluatePod(restricted, &workload.Template.ObjectMeta, &workload.Template.Spec)
			if result := policy.AggregateCheckResults(results); !result.Allowed {
				find(workload.Title, "level restricted, %s: %s", version, result.ForbiddenDetail())
			}
		}
	}
}

func checkReadOnlyRoot(manifests Manifests, _ *World, find Find) {
	for _, workload := range Workloads(manifests) {
		for _, container := range workload.Containers() {
			context := container.SecurityContext
			if context == nil || context.ReadOnlyRootFilesystem == nil || !*context.ReadOnlyRootFilesystem {
				find(workload.Title, "container %s: securityContext.readOnlyRootFilesystem should be true",
					container.Name)
			}
		}
	}
}

const safeToEvict = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"

// checkVolumes looks at what is writable. A pod with a volume on the node's disk keeps the cluster autoscaler from
// removing the node, unless the volume is in memory or the annotation says that it may go.
func checkVolumes(manifests Manifests, _ *World, find Find) {
	for _, workload := range Workloads(manifests) {
		mountable := map[string]bool{}
		for _, claim := range workload.Claims {
			mountable[claim.Name] = true
		}
		checkMemoryVolumes(workload, find)
		evictable := strings.Split(workload.Template.Annotations[safeToEvict], ",")
		for _, volume := range workload.Template.Spec.Volumes {
			mountable[volume.Name] = true
			checkVolume(workload.Title, volume, slices.Contains(evictable, volume.Name), find)
		}
		for _, name := range evictable {
			if name != "" && !mountable[name] {
				find(workload.Title, "annotation %s names %s, which is no volume", safeToEvict, name)
			}
		}
		for _, container := range workload.Containers() {
			for _, mount := range container.VolumeMounts {
				if !mountable[mount.Name] {
					find(workload.Title, "container %s mounts %s, which is no volume", container.Name, mount.Name)
				}
			}
		}
	}
}

// checkMemoryVolumes: what lies in a volume in memory counts as the container's, and a full one must not end it.
func checkMemoryVolumes(workload Workload, find Find) {
	var volumes, limits resource.Quantity
	for _, volume := range workload.Template.Spec.Volumes {
		place := volume.EmptyDir
		if place != nil && place.Medium == corev1.StorageMediumMemory && place.SizeLimit != nil {
			volumes.Add(*place.SizeLimit)
		}
	}
	for _, container := range workload.Template.Spec.Containers {
		limits.Add(*container.Resources.Limits.Memory())
	}
	if volumes.Cmp(limits) >= 0 && !volumes.IsZero() {
		find(workload.Title, "its volumes in memory, %s, should fit below its memory limit, %s", &volumes, &limits)
	}
}

func checkVolume(title string, volume corev1.Volume, evictable bool, find Find) {
	switch {
	case volume.ConfigMap != nil || volume.Secret != nil || volume.DownwardAPI != nil || volume.Projected != nil:
		// Read-only.
	case volume.EmptyDir == nil:
		find(title, "volume %s: should be an emptyDir; a claim belongs to a StatefulSet's volumeClaimTemplates",
			volume.Name)
	case volume.EmptyDir.SizeLimit == nil:
		find(title, "volume %s: emptyDir.sizeLimit should be set", volume.Name)
	case volume.EmptyDir.Medium != corev1.StorageMediumMemory && !evictable:
		find(title, "volume %s: emptyDir.medium should be Memory, or the annotation %s name it",
			volume.Name, safeToEvict)
	}
}

func checkToken(manifests Manifests, _ *World, find Find) {
	for _, workload := range Workloads(manifests) {
		mounts := workload.Template.Spec.AutomountServiceAccountToken
		if mounts == nil || *mounts {
			find(workload.Title, "spec.template.spec.automountServiceAccountToken should be false")
		}
	}
}

func checkServiceLinks(manifests Manifests, _ *World, find Find) {
	for _, workload := range Workloads(manifests) {
		links := workload.Template.Spec.EnableServiceLinks
		if links == nil || *links {
			find(workload.Title, "spec.template.spec.enableServiceLinks should be false")
		}
	}
}

// checkResources wants requests, without which there is no utilisation to scale by, and limits not below them.
func checkResources(manifests Manifests, _ *World, find Find) {
	for _, workload := range Workloads(manifests) {
		for _, container := range workload.Containers() {
			for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
				request, requested := container.Resources.Requests[name]
				limit, limited := container.Resources.Limits[name]
				where := fmt.Sprintf("container %s: resources", container.Name)
				if !requested || request.IsZero() {
					find(workload.Title, "%s.requests.%s should be set", where, name)
				}
				if !limited || limit.IsZero() {
					find(workload.Title, "%s.limits.%s should be set", where, name)
				} else if request.Cmp(limit) > 0 {
					find(workload.Title, "%s.requests.%s is above its limit", where, name)
				}
			}
		}
	}
}

var tagged = regexp.MustCompile(`^[^@]+:([A-Za-z0-9_][A-Za-z0-9_.-]*)(@sha256:[0-9a-f]{64})?$`)

// checkImages wants a version: what `latest` is changes between two pods of one Deployment.
func checkImages(manifests Manifests, world *World, find Find) {
	for _, workload := range Workloads(manifests) {
		for _, container := range workload.Containers() {
			tag := tagged.FindStringSubmatch(container.Image[strings.LastIndex(container.Image, "/")+1:])
			switch {
			case tag == nil || tag[1] == "latest":
				find(workload.Title, "container %s: image %s should have a version as its tag",
					container.Name, container.Image)
			case workload.Title == kilnTitle && container.Name == "kiln" && tag[1] != world.Version:
				find(workload.Title, "container kiln: image %s should have the tag %s, the project's version",
					container.Image, world.Version)
			}
		}
	}
}

func checkProbes(manifests Manifests, _ *World, find Find) {
	for _, workload := range Workloads(manifests) {
		for _, container := range workload.Template.Spec.Containers {
			probes := map[string]*corev1.Probe{
				"startupProbe": container.StartupProbe, "readinessProbe": container.ReadinessProbe,
				"livenessProbe": container.LivenessProbe,
			}
			for name, probe := range probes {
				if probe != nil {
					checkProbe(workload, container, name, probe, find)
				} else if workload.RunsOn {
					find(workload.Title, "container %s: %s should be set", container.Name, name)
				}
			}
		}
	}
}

func checkProbe(workload Workload, container corev1.Container, name string, probe *corev1.Probe, find Find) {
	where := fmt.Sprintf("container %s: %s", container.Name, name)
	isKiln := workload.Title == kilnTitle && container.Name == "kiln"
	switch {
	case probe.HTTPGet != nil:
		port := probe.HTTPGet.Port
		if _, is := portOf(port, container); !is {
			find(workload.Title, "%s.httpGet.port %s is no port of the container", where, port.String())
		}
		wanted := map[string]string{
			"startupProbe": "/startupz", "readinessProbe": "/readyz", "livenessProbe": "/livez",
		}[name]
		if isKiln && (port.StrVal == "" || probe.HTTPGet.Path != wanted) {
			find(workload.Title, "%s.httpGet should ask %s of a named port", where, wanted)
		}
	case isKiln:
		find(workload.Title, "%s should be an httpGet", where)
	case probe.TCPSocket != nil:
		port := probe.TCPSocket.Port
		if _, is := portOf(port, container); !is {
			find(workload.Title, "%s.tcpSocket.port %s is no port of the container", where, port.String())
		}
	case probe.Exec == nil:
		find(workload.Title, "%s asks nothing", where)
	}
}

var (
	secretName   = regexp.MustCompile(`(?i)(password|passwd|token|secret|credential)`)
	secretInLink = regexp.MustCompile(`[a-z]+://[^/\s:@]+:[^/\s@]+@`)
)

// checkPasswords finds what should come from a Secret: by its name in the environment, and by its form anywhere.
func checkPasswords(manifests Manifests, _ *World, find Find) {
	for _, workload := range Workloads(manifests) {
		for _, container := range workload.Containers() {
			for _, variable := range container.Env {
				if secretName.MatchString(variable.Name) && variable.Value != "" {
					find(workload.Title, "container %s: env %s should come from a Secret, not be a literal",
						container.Name, variable.Name)
				}
			}
		}
	}
	if found := secretInLink.Find(manifests.Text); found != nil {
		find("rendering", "%s… holds a password", found[:strings.Index(string(found), "://")+3])
	}
}
