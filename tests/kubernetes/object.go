package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	yamlstream "k8s.io/apimachinery/pkg/util/yaml"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// What may stand in a manifest. All of Kubernetes' own are served by 1.25 and by every later version up to 1.34, whose
// types these are; the Gateway API is of 1.0 or later, the Prometheus operator's kinds have had one version ever since.
var kinds = map[string]func() metav1.Object{
	"v1 ConfigMap":                            func() metav1.Object { return &corev1.ConfigMap{} },
	"v1 Service":                              func() metav1.Object { return &corev1.Service{} },
	"apps/v1 DaemonSet":                       func() metav1.Object { return &appsv1.DaemonSet{} },
	"apps/v1 Deployment":                      func() metav1.Object { return &appsv1.Deployment{} },
	"apps/v1 StatefulSet":                     func() metav1.Object { return &appsv1.StatefulSet{} },
	"autoscaling/v2 HorizontalPodAutoscaler":  func() metav1.Object { return &autoscalingv2.HorizontalPodAutoscaler{} },
	"batch/v1 Job":                            func() metav1.Object { return &batchv1.Job{} },
	"networking.k8s.io/v1 Ingress":            func() metav1.Object { return &networkingv1.Ingress{} },
	"networking.k8s.io/v1 NetworkPolicy":      func() metav1.Object { return &networkingv1.NetworkPolicy{} },
	"policy/v1 PodDisruptionBudget":           func() metav1.Object { return &policyv1.PodDisruptionBudget{} },
	"gateway.networking.k8s.io/v1 HTTPRoute":  func() metav1.Object { return &gatewayv1.HTTPRoute{} },
	"monitoring.coreos.com/v1 PodMonitor":     func() metav1.Object { return &monitoringv1.PodMonitor{} },
	"monitoring.coreos.com/v1 PrometheusRule": func() metav1.Object { return &monitoringv1.PrometheusRule{} },
	"monitoring.coreos.com/v1 ServiceMonitor": func() metav1.Object { return &monitoringv1.ServiceMonitor{} },
	"keda.sh/v1alpha1 ScaledObject":           func() metav1.Object { return &ScaledObject{} },
}

// Kinds that are refused with a reason better than that they are not listed.
var refused = map[string]string{
	"Secret":             "a Secret in a manifest is no secret: document the kubectl create secret that makes it",
	"ServiceAccount":     "Kiln asks the API server nothing, so it needs no account of its own",
	"Role":               "Kiln asks the API server nothing, so it needs no rights",
	"RoleBinding":        "Kiln asks the API server nothing, so it needs no rights",
	"ClusterRole":        "Kiln asks the API server nothing, so it needs no rights",
	"ClusterRoleBinding": "Kiln asks the API server nothing, so it needs no rights",
	"Namespace":          "the namespace is the user's",
}

// A Finding is a line of the report.
type Finding struct {
	Check, Object, Wanted string
}

func (finding Finding) String() string {
	return fmt.Sprintf("%s: %s: %s", finding.Check, finding.Object, finding.Wanted)
}

// An Object is one document of a rendering.
type Object struct {
	Type   string         // "apps/v1 Deployment"
	Title  string         // "Deployment/kiln"
	Fields map[string]any // as written
	Typed  metav1.Object  // the same, as one of `kinds`
}

// Manifests are the objects of one rendering, with the files that come along.
type Manifests struct {
	Overlay string // when it is one of k8s/overlays alone, else empty
	Text    []byte
	Objects []Object
	Adapter []AdapterFile
}

// Manifests renders a combination and reads it. What cannot be read is a finding, and is missing among the objects.
func (tree Tree) Manifests(combination Combination) (Manifests, []Finding) {
	text, err := tree.Render(combination)
	if err != nil {
		return Manifests{}, []Finding{{"render", combination.String(), err.Error()}}
	}
	manifests, findings := ReadManifests(text)
	if combination.Component == "" {
		manifests.Overlay = combination.Overlay
	}
	var failed []Finding
	manifests.Adapter, failed = tree.adapterFiles(combination)
	return manifests, append(findings, failed...)
}

func ReadManifests(text []byte) (Manifests, []Finding) {
	manifests := Manifests{Text: text}
	var findings []Finding
	documents := yamlstream.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return manifests, findings
		}
		if err != nil {
			return manifests, append(findings, Finding{"schema", "rendering", err.Error()})
		}
		object, failed := readObject(document)
		findings = append(findings, failed...)
		if object.Typed != nil {
			manifests.Objects = append(manifests.Objects, object)
		}
	}
}

// readObject decodes strictly: unknown fields, fields in the wrong case, duplicate keys and values of the wrong type
// are findings.
func readObject(document []byte) (Object, []Finding) {
	text, err := yaml.YAMLToJSONStrict(document)
	if err != nil {
		return Object{}, []Finding{{"schema", firstLines(document), err.Error()}}
	}
	var object Object
	if err := json.UnmarshalCaseSensitivePreserveInts(text, &object.Fields); err != nil {
		return Object{}, []Finding{{"schema", firstLines(document), err.Error()}}
	}
	kind := textAt(object.Fields, "kind")
	object.Type = textAt(object.Fields, "apiVersion") + " " + kind
	object.Title = kind + "/" + textAt(object.Fields, "metadata", "name")
	if reason, is := refused[kind]; is {
		return Object{}, []Finding{{"kind", object.Title, reason}}
	}
	build, known := kinds[object.Type]
	if !known {
		known := slices.Sorted(maps.Keys(kinds))
		return Object{}, []Finding{{"kind", object.Title, object.Type + " is none of " + strings.Join(known, ", ")}}
	}
	object.Typed = build()
	strict, err := json.UnmarshalStrict(text, object.Typed)
	if err != nil {
		return Object{}, []Finding{{"schema", object.Title, err.Error()}}
	}
	var findings []Finding
	for _, err := range strict {
		findings = append(findings, Finding{"schema", object.Title, err.Error()})
	}
	return object, findings
}

// All yields the objects of one Go type, with their titles.
func All[T metav1.Object](manifests Manifests) map[string]T {
	found := map[string]T{}
	for _, object := range manifests.Objects {
		if typed, is := object.Typed.(T); is {
			found[object.Title] = typed
		}
	}
	return found
}

// textAt gives a text deep in what was decoded; empty where there is none.
func textAt(value any, names ...string) string {
	for _, name := range names {
		fields, _ := value.(map[string]any)
		value = fields[name]
	}
	text, _ := value.(string)
	return text
}

func firstLines(document []byte) string {
	lines := strings.SplitN(string(bytes.TrimSpace(document)), "\n", 3)
	return strings.Join(lines[:min(2, len(lines))], " ")
}
