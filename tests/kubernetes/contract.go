package main

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// What is promised for each overlay, whose Deployment, Service and HorizontalPodAutoscaler are all named kiln.
var contract = map[string]struct {
	service      corev1.ServiceType
	min, max     int32
	utilization  int32 // of the CPU request, in percent
	requests     string
	limits       string
	mongodb      bool
	storage      string // class of MongoDB's volume; empty: the cluster's default
	hasAdminPort bool
}{
	"minikube": {
		service: "NodePort", min: 1, max: 10, utilization: 50, requests: "100m/128Mi", limits: "500m/256Mi",
	},
	"doks": {
		service: "LoadBalancer", min: 3, max: 10, utilization: 70, requests: "100m/128Mi", limits: "500m/256Mi",
		hasAdminPort: true,
	},
	"minikube-mongodb": {
		service: "NodePort", min: 2, max: 5, utilization: 70, requests: "200m/250Mi", limits: "500m/500Mi",
		mongodb: true,
	},
	"doks-mongodb": {
		service: "LoadBalancer", min: 3, max: 10, utilization: 70, requests: "100m/128Mi", limits: "500m/256Mi",
		mongodb: true, storage: "do-block-storage", hasAdminPort: true,
	},
}

// checkContract looks at overlays alone: components are there to differ.
func checkContract(manifests Manifests, _ *World, find Find) {
	if manifests.Overlay == "" {
		return
	}
	wanted, known := contract[manifests.Overlay]
	if !known {
		find(manifests.Overlay, "should have a row in tests/kubernetes/contract.go")
		return
	}
	same := func(title, what string, got, wanted any) {
		if fmt.Sprint(got) != fmt.Sprint(wanted) {
			find(title, "%s is %v, and %v is promised", what, got, wanted)
		}
	}
	container, exists := kilnContainer(manifests)
	same(kilnTitle, "its container kiln there", exists, true)
	same(kilnTitle, "requests", quantities(container.Resources.Requests), wanted.requests)
	same(kilnTitle, "limits", quantities(container.Resources.Limits), wanted.limits)
	http, _ := portOf(intstr.FromString("http"), container)
	same(kilnTitle, "the port http", http, 8080)
	_, hasAdminPort := portOf(intstr.FromString("admin"), container)
	same(kilnTitle, "a port admin there", hasAdminPort, wanted.hasAdminPort)

	service := All[*corev1.Service](manifests)["Service/kiln"]
	if service == nil || len(service.Spec.Ports) != 1 {
		find("Service/kiln", "should have one port")
	} else {
		same("Service/kiln", "spec.type", service.Spec.Type, wanted.service)
		same("Service/kiln", "port", service.Spec.Ports[0].Port, 80)
		same("Service/kiln", "targetPort", service.Spec.Ports[0].TargetPort.String(), "http")
	}

	const title = "HorizontalPodAutoscaler/kiln"
	if autoscaler := All[*autoscalingv2.HorizontalPodAutoscaler](manifests)[title]; autoscaler == nil {
		find(title, "should exist")
	} else {
		same(title, "spec.minReplicas", deref(autoscaler.Spec.MinReplicas), wanted.min)
		same(title, "spec.maxReplicas", autoscaler.Spec.MaxReplicas, wanted.max)
		same(title, "metrics", utilizations(autoscaler.Spec.Metrics), fmt.Sprintf("[cpu %d %%]", wanted.utilization))
	}

	set := All[*appsv1.StatefulSet](manifests)["StatefulSet/mongodb"]
	same("StatefulSet/mongodb", "there", set != nil, wanted.mongodb)
	if set != nil {
		same("StatefulSet/mongodb", "spec.serviceName", set.Spec.ServiceName, "mongodb-service")
		same("StatefulSet/mongodb", "volume claims", len(set.Spec.VolumeClaimTemplates), 1)
		for _, claim := range set.Spec.VolumeClaimTemplates {
			same("StatefulSet/mongodb", "storageClassName", deref(claim.Spec.StorageClassName), wanted.storage)
		}
		checkCredentials(kilnTitle, container, find)
		for _, container := range set.Spec.Template.Spec.Containers {
			checkCredentials("StatefulSet/mongodb", container, find)
		}
	}
}

// checkCredentials: one Secret feeds the database and its clients.
func checkCredentials(title string, container corev1.Container, find Find) {
	for _, name := range []string{"MONGO_INITDB_ROOT_USERNAME", "MONGO_INITDB_ROOT_PASSWORD"} {
		fed := false
		for _, variable := range container.Env {
			source := variable.ValueFrom
			fed = fed || variable.Name == name && source != nil && source.SecretKeyRef != nil &&
				source.SecretKeyRef.Name == "mongodb" && source.SecretKeyRef.Key == name
		}
		if !fed {
			find(title, "container %s: env %s should come from that key of the Secret mongodb", container.Name, name)
		}
	}
}

func quantities(list corev1.ResourceList) string {
	return list.Cpu().String() + "/" + list.Memory().String()
}

func utilizations(metrics []autoscalingv2.MetricSpec) []string {
	var texts []string
	for _, metric := range metrics {
		if metric.Resource == nil {
			texts = append(texts, string(metric.Type))
			continue
		}
		utilization := deref(metric.Resource.Target.AverageUtilization)
		texts = append(texts, fmt.Sprintf("%s %d %%", metric.Resource.Name, utilization))
	}
	return texts
}

// deref is the value, or the type's zero where none was given.
func deref[T any](pointer *T) T {
	if pointer == nil {
		return *new(T)
	}
	return *pointer
}
