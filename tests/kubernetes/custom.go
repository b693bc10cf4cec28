package main

import (
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A ScaledObject of KEDA, with the fields that its reference lists (keda.sh, docs 2.15, reference/scaledobject-spec).
// KEDA's own types bring controller-runtime and its like along.
type ScaledObject struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              ScaledObjectSpec `json:"spec"`
}

type ScaledObjectSpec struct {
	ScaleTargetRef        ScaleTarget           `json:"scaleTargetRef"`
	PollingInterval       *int32                `json:"pollingInterval,omitempty"`
	CooldownPeriod        *int32                `json:"cooldownPeriod,omitempty"`
	InitialCooldownPeriod *int32                `json:"initialCooldownPeriod,omitempty"`
	IdleReplicaCount      *int32                `json:"idleReplicaCount,omitempty"`
	MinReplicaCount       *int32                `json:"minReplicaCount,omitempty"`
	MaxReplicaCount       *int32                `json:"maxReplicaCount,omitempty"`
	Fallback              *ScaledObjectFallback `json:"fallback,omitempty"`
	Advanced              *ScaledObjectAdvanced `json:"advanced,omitempty"`
	Triggers              []ScaledObjectTrigger `json:"triggers"`
}

type ScaleTarget struct {
	APIVersion             string `json:"apiVersion,omitempty"`
	Kind                   string `json:"kind,omitempty"`
	Name                   string `json:"name"`
	EnvSourceContainerName string `json:"envSourceContainerName,omitempty"`
}

type ScaledObjectFallback struct {
	FailureThreshold int32 `json:"failureThreshold"`
	Replicas         int32 `json:"replicas"`
}

type ScaledObjectAdvanced struct {
	RestoreToOriginalReplicaCount bool `json:"restoreToOriginalReplicaCount,omitempty"`
	HorizontalPodAutoscalerConfig struct {
		Name     string                                         `json:"name,omitempty"`
		Behavior *autoscalingv2.HorizontalPodAutoscalerBehavior `json:"behavior,omitempty"`
	} `json:"horizontalPodAutoscalerConfig,omitempty"`
}

type ScaledObjectTrigger struct {
	Type             string            `json:"type"`
	Name             string            `json:"name,omitempty"`
	MetricType       string            `json:"metricType,omitempty"`
	UseCachedMetrics bool              `json:"useCachedMetrics,omitempty"`
	Metadata         map[string]string `json:"metadata"`
}

// What a trigger's metadata may hold: name to whether it is required (keda.sh, docs 2.15, scalers/prometheus and
// scalers/cpu).
var triggerMetadata = map[string]map[string]bool{
	"prometheus": {
		"serverAddress": true, "query": true, "threshold": true, "activationThreshold": false, "namespace": false,
		"customHeaders": false, "queryParameters": false, "ignoreNullValues": false, "unsafeSsl": false,
		"authModes": false,
	},
	"cpu":    {"value": true, "containerName": false},
	"memory": {"value": true, "containerName": false},
}
