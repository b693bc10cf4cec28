package main

import (
	"slices"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Labels that everything here carries; version is checked against the project's for what is Kiln's own.
var recommended = []string{"app.kubernetes.io/name", "app.kubernetes.io/part-of", "app.kubernetes.io/version"}

func checkLabels(manifests Manifests, world *World, find Find) {
	check := func(title string, labels map[string]string) {
		for _, name := range recommended {
			if labels[name] == "" {
				find(title, "the label %s should be set", name)
			}
		}
		version := labels["app.kubernetes.io/version"]
		if labels["app.kubernetes.io/name"] == "kiln" && version != "" && version != world.Version {
			find(title, "the label app.kubernetes.io/version should be %s, the project's version", world.Version)
		}
	}
	for _, object := range manifests.Objects {
		check(object.Title, object.Typed.GetLabels())
	}
	for _, workload := range Workloads(manifests) {
		check(workload.Title+" template", workload.Template.Labels)
	}
}

// checkSelectors wants each selector to pick the pods of exactly one workload. One that also picks a Job's pods sends
// them requests, or counts them as replicas.
func checkSelectors(manifests Manifests, _ *World, find Find) {
	workloads := Workloads(manifests)
	one := func(title, field string, selector *metav1.LabelSelector) *Workload {
		var picked []Workload
		for _, workload := range workloads {
			if picks(selector, workload.Template.Labels) {
				picked = append(picked, workload)
			}
		}
		if len(picked) != 1 {
			find(title, "%s should pick the pods of one workload, not of %d", field, len(picked))
			return nil
		}
		return &picked[0]
	}
	for _, workload := range workloads {
		if workload.Selector != nil {
			picked := one(workload.Title, "spec.selector", workload.Selector)
			if picked != nil && picked.Title != workload.Title {
				find(workload.Title, "spec.selector picks the pods of %s, not its own", picked.Title)
			}
		}
		for _, constraint := range workload.Template.Spec.TopologySpreadConstraints {
			if !picks(constraint.LabelSelector, workload.Template.Labels) {
				find(workload.Title, "topologySpreadConstraints for %s: labelSelector does not pick the pod itself",
					constraint.TopologyKey)
			}
		}
	}
	for title, service := range All[*corev1.Service](manifests) {
		selector := &metav1.LabelSelector{MatchLabels: service.Spec.Selector}
		checkServicePorts(title, service, one(title, "spec.selector", selector), find)
	}
	for title, budget := range All[*policyv1.PodDisruptionBudget](manifests) {
		one(title, "spec.selector", budget.Spec.Selector)
		if (budget.Spec.MinAvailable == nil) == (budget.Spec.MaxUnavailable == nil) {
			find(title, "spec: one of minAvailable and maxUnavailable should be set")
		}
	}
	for title, policy := range All[*networkingv1.NetworkPolicy](manifests) {
		checkPolicyPorts(title, policy, one(title, "spec.podSelector", &policy.Spec.PodSelector), find)
	}
	for title, monitor := range All[*monitoringv1.ServiceMonitor](manifests) {
		checkServiceMonitor(manifests, title, monitor, find)
	}
	for title, monitor := range All[*monitoringv1.PodMonitor](manifests) {
		if workload := one(title, "spec.selector", &monitor.Spec.Selector); workload != nil {
			for _, endpoint := range monitor.Spec.PodMetricsEndpoints {
				if endpoint.Port == nil || !hasPort(*workload, intstr.FromString(*endpoint.Port)) {
					find(title, "spec.podMetricsEndpoints: port should be one that %s names", workload.Title)
				}
			}
		}
	}
}

func hasPort(workload Workload, port intstr.IntOrString) bool {
	_, has := portOf(port, workload.Containers()...)
	return has
}

func checkServicePorts(title string, service *corev1.Service, workload *Workload, find Find) {
	for _, port := range service.Spec.Ports {
		if workload != nil && !hasPort(*workload, port.TargetPort) {
			find(title, "port %s: targetPort %s is no port of %s", port.Name, port.TargetPort.String(), workload.Title)
		}
	}
}

func checkPolicyPorts(title string, policy *networkingv1.NetworkPolicy, workload *Workload, find Find) {
	if workload == nil {
		return
	}
	for _, rule := range policy.Spec.Ingress {
		for _, port := range rule.Ports {
			if port.Port != nil && !hasPort(*workload, *port.Port) {
				find(title, "ingress: port %s is no port of %s", port.Port.String(), workload.Title)
			}
		}
	}
}

func checkServiceMonitor(manifests Manifests, title string, monitor *monitoringv1.ServiceMonitor, find Find) {
	picked := 0
	for _, service := range All[*corev1.Service](manifests) {
		if !picks(&monitor.Spec.Selector, service.Labels) {
			continue
		}
		picked++
		for _, endpoint := range monitor.Spec.Endpoints {
			named := func(port corev1.ServicePort) bool { return port.Name == endpoint.Port }
			if !slices.ContainsFunc(service.Spec.Ports, named) {
				find(title, "spec.endpoints: %q is no port of Service/%s", endpoint.Port, service.Name)
			}
		}
	}
	if picked != 1 {
		find(title, "spec.selector should pick one Service, not %d", picked)
	}
}

// checkBackends follows references by name: from routes to Services, from a StatefulSet to the Service that names its
// pods, from pods to what they take from a ConfigMap. Secrets are made by hand, so nothing here has them.
func checkBackends(manifests Manifests, _ *World, find Find) {
	services := All[*corev1.Service](manifests)
	backend := func(title, name string, matches func(corev1.ServicePort) bool) {
		service, exists := services["Service/"+name]
		if !exists {
			find(title, "there is no Service %s", name)
		} else if !slices.ContainsFunc(service.Spec.Ports, matches) {
			find(title, "Service %s has no such port", name)
		}
	}
	for title, ingress := range All[*networkingv1.Ingress](manifests) {
		for _, rule := range ingress.Spec.Rules {
			if rule.HTTP == nil {
				find(title, "spec.rules: http should be set")
				continue
			}
			for _, path := range rule.HTTP.Paths {
				wanted := deref(path.Backend.Service)
				backend(title, wanted.Name, func(port corev1.ServicePort) bool {
					return port.Name == wanted.Port.Name && wanted.Port.Name != "" || port.Port == wanted.Port.Number
				})
			}
		}
	}
	for title, route := range All[*gatewayv1.HTTPRoute](manifests) {
		for _, rule := range route.Spec.Rules {
			for _, reference := range rule.BackendRefs {
				backend(title, string(reference.Name), func(port corev1.ServicePort) bool {
					return reference.Port != nil && port.Port == int32(*reference.Port)
				})
			}
		}
	}
	for title, set := range All[*appsv1.StatefulSet](manifests) {
		service, exists := services["Service/"+set.Spec.ServiceName]
		if !exists || service.Spec.ClusterIP != corev1.ClusterIPNone {
			find(title, "spec.serviceName: there is no headless Service %q", set.Spec.ServiceName)
		}
	}
	configMaps := All[*corev1.ConfigMap](manifests)
	for _, workload := range Workloads(manifests) {
		for _, volume := range workload.Template.Spec.Volumes {
			if volume.ConfigMap == nil {
				continue
			}
			if _, exists := configMaps["ConfigMap/"+volume.ConfigMap.Name]; !exists {
				find(workload.Title, "volume %s: there is no ConfigMap %s", volume.Name, volume.ConfigMap.Name)
			}
		}
	}
}

// checkExposedPorts keeps control routes inside: where there is an admin port, no Service leads to it and a policy of
// its own says who may.
func checkExposedPorts(manifests Manifests, _ *World, find Find) {
	kiln, exists := kilnContainer(manifests)
	if _, has := portOf(intstr.FromString("admin"), kiln); !exists || !has {
		return
	}
	admin := intstr.FromString("admin")
	for title, service := range All[*corev1.Service](manifests) {
		for _, port := range service.Spec.Ports {
			number, known := portOf(port.TargetPort, kiln)
			if private, _ := portOf(admin, kiln); known && number == private {
				find(title, "port %s leads to the admin port, where control routes are", port.Name)
			}
		}
	}
	for _, policy := range All[*networkingv1.NetworkPolicy](manifests) {
		for _, rule := range policy.Spec.Ingress {
			for _, port := range rule.Ports {
				if port.Port != nil && *port.Port == admin && len(rule.From) > 0 {
					return
				}
			}
		}
	}
	find(kilnTitle, "a NetworkPolicy should say who may reach the port admin")
}
