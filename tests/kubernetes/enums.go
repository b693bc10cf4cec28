package main

import (
	"reflect"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// The values of the types that have a fixed set, as far as manifests here have use for them: some that are left out are
// newer than Kubernetes 1.25, such as the metric type ContainerResource (1.27). A type that turns up and is not listed
// is a finding, so nothing goes unchecked.
var enums = map[reflect.Type][]string{
	enum[appsv1.DaemonSetUpdateStrategyType]():   {"RollingUpdate", "OnDelete"},
	enum[appsv1.DeploymentStrategyType]():        {"RollingUpdate", "Recreate"},
	enum[appsv1.PodManagementPolicyType]():       {"OrderedReady", "Parallel"},
	enum[appsv1.StatefulSetUpdateStrategyType](): {"RollingUpdate", "OnDelete"},
	enum[autoscalingv2.HPAScalingPolicyType]():   {"Pods", "Percent"},
	enum[autoscalingv2.MetricSourceType]():       {"Resource", "Pods", "Object", "External"},
	enum[autoscalingv2.MetricTargetType]():       {"Utilization", "Value", "AverageValue"},
	enum[autoscalingv2.ScalingPolicySelect]():    {"Max", "Min", "Disabled"},
	enum[batchv1.CompletionMode]():               {"NonIndexed", "Indexed"},
	enum[corev1.Capability]():                    {"ALL"},
	enum[corev1.DNSPolicy]():                     {"ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"},
	enum[corev1.IPFamily]():                      {"IPv4", "IPv6"},
	enum[corev1.IPFamilyPolicy]():                {"SingleStack", "PreferDualStack", "RequireDualStack"},
	enum[corev1.NodeSelectorOperator]():          {"In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"},
	enum[corev1.PersistentVolumeAccessMode]():    {"ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"},
	enum[corev1.PersistentVolumeMode]():          {"Filesystem", "Block"},
	enum[corev1.PodFSGroupChangePolicy]():        {"OnRootMismatch", "Always"},
	enum[corev1.Protocol]():                      {"TCP", "UDP", "SCTP"},
	enum[corev1.PullPolicy]():                    {"Always", "IfNotPresent", "Never"},
	enum[corev1.RestartPolicy]():                 {"Always", "OnFailure", "Never"},
	enum[corev1.SeccompProfileType]():            {"RuntimeDefault", "Localhost", "Unconfined"},
	enum[corev1.ServiceAffinity]():               {"ClientIP", "None"},
	enum[corev1.ServiceExternalTrafficPolicy]():  {"Cluster", "Local"},
	enum[corev1.ServiceInternalTrafficPolicy]():  {"Cluster", "Local"},
	enum[corev1.ServiceType]():                   {"ClusterIP", "NodePort", "LoadBalancer", "ExternalName"},
	enum[corev1.StorageMedium]():                 {"", "Memory"},
	enum[corev1.TaintEffect]():                   {"NoSchedule", "PreferNoSchedule", "NoExecute"},
	enum[corev1.TerminationMessagePolicy]():      {"File", "FallbackToLogsOnError"},
	enum[corev1.TolerationOperator]():            {"Exists", "Equal"},
	enum[corev1.UnsatisfiableConstraintAction](): {"DoNotSchedule", "ScheduleAnyway"},
	enum[corev1.URIScheme]():                     {"HTTP", "HTTPS"},
	enum[gatewayv1.HeaderMatchType]():            {"Exact", "RegularExpression"},
	enum[gatewayv1.HTTPMethod]():                 {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"},
	enum[gatewayv1.HTTPRouteFilterType]():        {"RequestHeaderModifier", "ResponseHeaderModifier"},
	enum[gatewayv1.PathMatchType]():              {"Exact", "PathPrefix"},
	enum[metav1.LabelSelectorOperator]():         {"In", "NotIn", "Exists", "DoesNotExist"},
	enum[networkingv1.PathType]():                {"Exact", "Prefix", "ImplementationSpecific"},
	enum[networkingv1.PolicyType]():              {"Ingress", "Egress"},
}

// Names and patterns: any text, or one that another check looks at.
var openTexts = map[reflect.Type]bool{
	enum[corev1.ResourceName]():   true, // checkResources
	enum[gatewayv1.Group]():       true,
	enum[gatewayv1.Hostname]():    true,
	enum[gatewayv1.Kind]():        true,
	enum[gatewayv1.Namespace]():   true,
	enum[gatewayv1.ObjectName]():  true, // checkBackends
	enum[gatewayv1.SectionName](): true,
	enum[monitoringv1.Duration](): true, // promtool
	enum[types.UID]():             true,
}

func enum[T ~string]() reflect.Type { return reflect.TypeFor[T]() }

// Fields that came after Kubernetes 1.25, or were alpha in it: the difference between its API types and those of 1.34.
// An older API server drops them without a word.
var newer = map[string]string{
	"v1.Container.resizePolicy":                               "1.27",
	"v1.Container.restartPolicy":                              "1.29",
	"v1.Container.restartPolicyRules":                         "1.34",
	"v1.EnvVarSource.fileKeyRef":                              "1.34",
	"v1.JobSpec.backoffLimitPerIndex":                         "1.29",
	"v1.JobSpec.managedBy":                                    "1.32",
	"v1.JobSpec.maxFailedIndexes":                             "1.29",
	"v1.JobSpec.podFailurePolicy":                             "1.26",
	"v1.JobSpec.podReplacementPolicy":                         "1.29",
	"v1.JobSpec.successPolicy":                                "1.31",
	"v1.Lifecycle.stopSignal":                                 "1.33",
	"v1.LifecycleHandler.sleep":                               "1.30",
	"v1.PersistentVolumeClaimSpec.volumeAttributesClassName":  "1.31",
	"v1.PodAffinityTerm.matchLabelKeys":                       "1.31",
	"v1.PodAffinityTerm.mismatchLabelKeys":                    "1.31",
	"v1.PodDisruptionBudgetSpec.unhealthyPodEvictionPolicy":   "1.27",
	"v1.PodSecurityContext.appArmorProfile":                   "1.30",
	"v1.PodSecurityContext.seLinuxChangePolicy":               "1.33",
	"v1.PodSecurityContext.supplementalGroupsPolicy":          "1.33",
	"v1.PodSpec.hostUsers":                                    "1.30",
	"v1.PodSpec.hostnameOverride":                             "1.34",
	"v1.PodSpec.resourceClaims":                               "1.32",
	"v1.PodSpec.resources":                                    "1.34",
	"v1.PodSpec.schedulingGates":                              "1.27",
	"v1.ResourceRequirements.claims":                          "1.32",
	"v1.SecurityContext.appArmorProfile":                      "1.30",
	"v1.ServiceSpec.trafficDistribution":                      "1.31",
	"v1.StatefulSetSpec.ordinals":                             "1.27",
	"v1.StatefulSetSpec.persistentVolumeClaimRetentionPolicy": "1.27",
	"v1.TopologySpreadConstraint.matchLabelKeys":              "1.27",
	"v1.TopologySpreadConstraint.minDomains":                  "1.27",
	"v1.TopologySpreadConstraint.nodeAffinityPolicy":          "1.26",
	"v1.TopologySpreadConstraint.nodeTaintsPolicy":            "1.26",
	"v1.VolumeMount.recursiveReadOnly":                        "1.31",
	"v1.VolumeProjection.clusterTrustBundle":                  "1.33",
	"v1.VolumeProjection.podCertificate":                      "1.34",
	"v1.VolumeSource.image":                                   "1.33",
	"v2.HPAScalingRules.tolerance":                            "1.33",
}
