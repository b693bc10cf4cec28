package main

import (
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// checkReplicas: what an autoscaler owns, no manifest sets, or each apply would set it back.
func checkReplicas(manifests Manifests, _ *World, find Find) {
	for title, deployment := range All[*appsv1.Deployment](manifests) {
		if deployment.Spec.Replicas != nil {
			find(title, "spec.replicas should be absent: it belongs to the autoscaler")
		}
	}
}

func checkAutoscalers(manifests Manifests, _ *World, find Find) {
	scaledBy := map[string][]string{}
	target := func(title, version, kind, name string) {
		target := kind + "/" + name
		scaledBy[target] = append(scaledBy[target], title)
		for _, object := range manifests.Objects {
			if object.Title == target && object.Type == version+" "+kind {
				return
			}
		}
		find(title, "spec.scaleTargetRef: there is no %s %s %s", version, kind, name)
	}
	for title, autoscaler := range All[*autoscalingv2.HorizontalPodAutoscaler](manifests) {
		reference := autoscaler.Spec.ScaleTargetRef
		target(title, reference.APIVersion, reference.Kind, reference.Name)
		checkBounds(title, autoscaler.Spec.MinReplicas, autoscaler.Spec.MaxReplicas, find)
		checkMetrics(title, autoscaler.Spec.Metrics, find)
		checkBehavior(title, autoscaler.Spec.Behavior, find)
	}
	for title, scaled := range All[*ScaledObject](manifests) {
		version, kind := "apps/v1", "Deployment" // KEDA's defaults
		if reference := scaled.Spec.ScaleTargetRef; reference.Kind != "" {
			version, kind = reference.APIVersion, reference.Kind
		}
		target(title, version, kind, scaled.Spec.ScaleTargetRef.Name)
		if scaled.Spec.MaxReplicaCount == nil {
			find(title, "spec.maxReplicaCount should be set: KEDA's own is 100")
		} else {
			checkBounds(title, scaled.Spec.MinReplicaCount, *scaled.Spec.MaxReplicaCount, find)
		}
		checkTriggers(title, scaled.Spec.Triggers, find)
		if scaled.Spec.Advanced != nil {
			checkBehavior(title, scaled.Spec.Advanced.HorizontalPodAutoscalerConfig.Behavior, find)
		}
	}
	for title := range All[*appsv1.Deployment](manifests) {
		if by := scaledBy[title]; len(by) != 1 {
			find(title, "should have one autoscaler, not %d: %s", len(by), strings.Join(by, ", "))
		}
	}
}

func checkBounds(title string, min *int32, max int32, find Find) {
	if min == nil || *min < 1 || *min > max {
		find(title, "the minimum of replicas should be set, at least 1 and at most the maximum, %d", max)
	}
}

func checkMetrics(title string, metrics []autoscalingv2.MetricSpec, find Find) {
	resources := map[corev1.ResourceName]bool{}
	for _, metric := range metrics {
		sources := map[autoscalingv2.MetricSourceType]bool{
			"Resource": metric.Resource != nil, "Pods": metric.Pods != nil, "Object": metric.Object != nil,
			"External": metric.External != nil,
		}
		for source, given := range sources {
			if given != (source == metric.Type) {
				find(title, "spec.metrics: a metric of type %s should say what, and nothing else", metric.Type)
			}
		}
		switch {
		case metric.Resource != nil:
			resources[metric.Resource.Name] = true
			checkTarget(title, metric.Resource.Target, find)
		case metric.Pods != nil:
			checkTarget(title, metric.Pods.Target, find)
			if metric.Pods.Target.AverageValue == nil {
				find(title, "spec.metrics: pods.target.averageValue should be set")
			}
		case metric.Object != nil:
			checkTarget(title, metric.Object.Target, find)
		case metric.External != nil:
			checkTarget(title, metric.External.Target, find)
		}
	}
	if len(metrics) == 0 {
		find(title, "spec.metrics should be set: the default is 80 %% of the CPU request")
	}
	if resources[corev1.ResourceMemory] && !resources[corev1.ResourceCPU] {
		find(title, "spec.metrics: memory alone should not scale; keep cpu beside it")
	}
}

func checkTarget(title string, target autoscalingv2.MetricTarget, find Find) {
	given := map[autoscalingv2.MetricTargetType]bool{
		autoscalingv2.UtilizationMetricType:  target.AverageUtilization != nil && *target.AverageUtilization > 0,
		autoscalingv2.AverageValueMetricType: target.AverageValue != nil && target.AverageValue.Sign() > 0,
		autoscalingv2.ValueMetricType:        target.Value != nil && target.Value.Sign() > 0,
	}
	if !given[target.Type] {
		find(title, "spec.metrics: a target of type %s should have its value, above zero", target.Type)
	}
}

// The bounds are the API server's (k8s.io/kubernetes, pkg/apis/autoscaling/validation).
func checkBehavior(title string, behavior *autoscalingv2.HorizontalPodAutoscalerBehavior, find Find) {
	if behavior == nil {
		return
	}
	directions := map[string]*autoscalingv2.HPAScalingRules{
		"scaleUp": behavior.ScaleUp, "scaleDown": behavior.ScaleDown,
	}
	for direction, rules := range directions {
		if rules == nil {
			continue
		}
		if window := rules.StabilizationWindowSeconds; window != nil && (*window < 0 || *window > 3600) {
			find(title, "spec.behavior.%s.stabilizationWindowSeconds should be between 0 and 3600", direction)
		}
		for _, policy := range rules.Policies {
			if policy.Value < 1 || policy.PeriodSeconds < 1 || policy.PeriodSeconds > 1800 {
				find(title, "spec.behavior.%s: a policy's value should be above 0, its period between 1 and 1800",
					direction)
			}
		}
	}
}

func checkTriggers(title string, triggers []ScaledObjectTrigger, find Find) {
	if len(triggers) == 0 {
		find(title, "spec.triggers should be set")
	}
	for _, trigger := range triggers {
		known, is := triggerMetadata[trigger.Type]
		if !is {
			find(title, "spec.triggers: the type %q is not listed in tests/kubernetes/custom.go", trigger.Type)
		}
		for name := range trigger.Metadata {
			if _, is := known[name]; !is {
				find(title, "spec.triggers: %s has no metadata %q", trigger.Type, name)
			}
		}
		for name, required := range known {
			if required && trigger.Metadata[name] == "" {
				find(title, "spec.triggers: %s needs the metadata %q", trigger.Type, name)
			}
		}
	}
}

// checkRollout: a new pod is ready before an old one goes, and the old one ends by itself.
func checkRollout(manifests Manifests, _ *World, find Find) {
	for title, deployment := range All[*appsv1.Deployment](manifests) {
		rolling := deployment.Spec.Strategy.RollingUpdate
		if rolling == nil || rolling.MaxUnavailable == nil || *rolling.MaxUnavailable != intstr.FromInt32(0) {
			find(title, "spec.strategy.rollingUpdate.maxUnavailable should be 0")
		}
	}
	for _, workload := range Workloads(manifests) {
		for _, container := range workload.Containers() {
			if container.Lifecycle != nil && container.Lifecycle.PreStop != nil {
				find(workload.Title, "container %s: lifecycle.preStop should be absent", container.Name)
			}
		}
	}
}
