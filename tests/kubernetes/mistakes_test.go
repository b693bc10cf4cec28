package main

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"
)

const (
	deployment = "Deployment/kiln"
	service    = "Service/kiln"
	autoscaler = "HorizontalPodAutoscaler/kiln"
	pod        = "spec/template/spec/"
	container  = pod + "containers/kiln/"
	database   = "StatefulSet/mongodb"
	balancer   = "service.beta.kubernetes.io~1do-loadbalancer-"
)

func set(title, path string, value any) func(*Copy) {
	return func(copied *Copy) { copied.Set(title, path, value) }
}

func remove(title, path string) func(*Copy) { return set(title, path, nil) }

func add(text string) func(*Copy) {
	return func(copied *Copy) { copied.Add(text) }
}

func addTo(title, path string, item any) func(*Copy) {
	return func(copied *Copy) { copied.Append(title, path, item) }
}

func spell(old, new string) func(*Copy) {
	return func(copied *Copy) { copied.Spell(old, new) }
}

type object = map[string]any

const secondAutoscaler = `
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: second}
spec:
  maxReplicas: 3
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: kiln}
`

func panelAsks(query string) func(*Copy) {
	return set("ConfigMap/kiln-dashboard", "data/kiln.json", `{"panels": [{"targets": [{"expr": "`+query+`"}]}]}`)
}

func variableOf(name, value string) object { return object{"name": name, "value": value} }

// Each mistake is planted in a copy of a rendering, minikube's unless it says otherwise, and a check must name it.
type mistake struct {
	name  string
	on    string // the combination, as the report names it
	plant func(*Copy)
	check string
	names string // what the finding must say
}

var mistakes = []mistake{
	{"a field in the wrong place", "", set(deployment, "spec/containers", []any{}),
		"schema", `unknown field "spec.containers"`},
	{"a field misspelt", "", set(deployment, container+"imagePullPolice", "Always"), "schema", "imagePullPolice"},
	{"a field in the wrong case", "", set(deployment, "spec/Replicas", 3), "schema", "Replicas"},
	{"a field twice", "", spell("  maxReplicas: 10\n", "  maxReplicas: 10\n  maxReplicas: 10\n"),
		"schema", "maxReplicas"},
	{"a number for a text", "", addTo(deployment, container+"env", object{"name": "KILN_WORKERS", "value": 1}),
		"schema", "cannot unmarshal number"},
	{"a text for a number", "", set(autoscaler, "spec/maxReplicas", "10"), "schema", "cannot unmarshal string"},
	{"no quantity", "", set(deployment, container+"resources/requests/cpu", "100 m"),
		"schema", "quantities must match"},
	{"a required field left out", "", remove(autoscaler, "spec/maxReplicas"),
		"schema", "spec.maxReplicas: is required"},
	{"no such value", "", set(service, "spec/type", "Nodeport"), "schema", `"Nodeport" is none of`},
	{"a kind of metric too new", "", set(autoscaler, "spec/metrics/0/type", "ContainerResource"),
		"schema", "ContainerResource"},
	{"a field of a container too new", "", set(deployment, container+"resizePolicy", []any{}), "schema", "1.27"},
	{"a field of the HPA too new", "minikube + behavior-demo",
		set(autoscaler, "spec/behavior/scaleDown/tolerance", "0.05"),
		"schema", "1.33"},
	{"a field of Prometheus' operator misspelt", "minikube + monitoring",
		set("ServiceMonitor/kiln", "spec/endpoints/0/intervall", "15s"),
		"schema", "intervall"},
	{"a field of the Gateway API misspelt", "minikube + gateway", set("HTTPRoute/kiln", "spec/hosts", []any{}),
		"schema", "hosts"},
	{"a field of KEDA misspelt", "minikube + autoscale-keda", set("ScaledObject/kiln", "spec/maxReplicas", 10),
		"schema", "maxReplicas"},

	{"a version that was removed", "", set(autoscaler, "apiVersion", "autoscaling/v2beta2"),
		"kind", "autoscaling/v2beta2"},
	{"a Secret", "minikube-mongodb", add("{apiVersion: v1, kind: Secret, metadata: {name: mongodb}}"),
		"kind", "Secret/mongodb"},
	{"rights", "", add("{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: kiln}}"),
		"kind", "Role/kiln"},

	{"a name that DNS does not take", "", set(service, "metadata/name", "kiln_server"), "names", "kiln_server"},
	{"a label's value with a blank", "", set(deployment, "metadata/labels/note", "a b"),
		"names", "metadata.labels"},
	{"a label of the template too long", "",
		set(deployment, "spec/template/metadata/labels/note", strings.Repeat("a", 64)),
		"names", "63"},
	{"a namespace", "", set(service, "metadata/namespace", "demo"), "names", "metadata.namespace"},
	{"a port's name too long", "",
		addTo(deployment, container+"ports", object{"name": "longer-than-fifteen", "containerPort": 1}),
		"names", "15"},
	{"two objects of one name", "",
		func(copied *Copy) { copied.documents = append(copied.documents, copied.Object(service)) },
		"names", "twice"},

	{"a label missing", "", remove(service, "metadata/labels/app.kubernetes.io~1part-of"), "labels", "part-of"},
	{"a label of the template missing", "",
		remove(deployment, "spec/template/metadata/labels/app.kubernetes.io~1version"),
		"labels", "version"},
	{"another version's label", "", set(service, "metadata/labels/app.kubernetes.io~1version", "9.9.9"),
		"labels", "version"},

	{"privileged", "", set(deployment, container+"securityContext/privileged", true), "pod security", "privileged"},
	{"no seccomp profile", "", remove(deployment, pod+"securityContext/seccompProfile"),
		"pod security", "seccompProfile"},
	{"root", "", set(deployment, pod+"securityContext/runAsNonRoot", false), "pod security", "runAsNonRoot"},
	{"a privilege to gain", "minikube-mongodb",
		set(database, pod+"containers/mongodb/securityContext/allowPrivilegeEscalation", true),
		"pod security", "allowPrivilegeEscalation"},
	{"a folder of the node", "",
		addTo(deployment, pod+"volumes", object{"name": "host", "hostPath": object{"path": "/"}}),
		"pod security", "hostPath"},
	{"a writable root", "", remove(deployment, container+"securityContext/readOnlyRootFilesystem"),
		"read-only root", "readOnlyRootFilesystem"},

	{"a volume that keeps a node", "",
		addTo(deployment, pod+"volumes", object{"name": "disk", "emptyDir": object{"sizeLimit": "1Mi"}}),
		"volumes", "disk"},
	{"a volume without a limit", "",
		addTo(deployment, pod+"volumes", object{"name": "all", "emptyDir": object{"medium": "Memory"}}),
		"volumes", "sizeLimit"},
	{"a claim shared by replicas", "",
		addTo(deployment, pod+"volumes", object{"name": "claim", "persistentVolumeClaim": object{"claimName": "a"}}),
		"volumes", "claim"},
	{"a volume as large as the memory", "",
		set(deployment, pod+"volumes/records/emptyDir/sizeLimit", "256Mi"), "volumes", "below its memory limit"},
	{"a mount of nothing", "",
		addTo(deployment, container+"volumeMounts", object{"name": "nothing", "mountPath": "/n"}),
		"volumes", "nothing"},

	{"a token mounted", "", remove(deployment, pod+"automountServiceAccountToken"),
		"service account token", "automountServiceAccountToken"},
	{"service links", "", set(deployment, pod+"enableServiceLinks", true), "service links", "enableServiceLinks"},

	{"no CPU request", "", remove(deployment, container+"resources/requests/cpu"), "resources", "requests.cpu"},
	{"no memory limit", "minikube-mongodb", remove(database, pod+"containers/mongodb/resources/limits/memory"),
		"resources", "limits.memory"},
	{"a request above its limit", "", set(deployment, container+"resources/requests/cpu", "2"),
		"resources", "above its limit"},

	{"the tag latest", "", set(deployment, container+"image", "kiln:latest"), "image tag", "kiln:latest"},
	{"no tag, but a registry's port", "", set(deployment, container+"image", "localhost:5000/kiln"),
		"image tag", "localhost:5000/kiln"},
	{"another version's image", "", set(deployment, container+"image", "kiln:9.9.9"), "image tag", "9.9.9"},

	{"a probe of no port", "", set(deployment, container+"readinessProbe/httpGet/port", "web"),
		"probes", "readinessProbe.httpGet.port web"},
	{"a probe by number", "", set(deployment, container+"livenessProbe/httpGet/port", 8080),
		"probes", "named port"},
	{"liveness by what a full pod fails", "", set(deployment, container+"livenessProbe/httpGet/path", "/readyz"),
		"probes", "/livez"},
	{"no readiness", "", remove(deployment, container+"readinessProbe"), "probes", "readinessProbe"},
	{"a database's probe of no port", "minikube-mongodb",
		set(database, pod+"containers/mongodb/livenessProbe/tcpSocket/port", "mongo"),
		"probes", "tcpSocket.port mongo"},

	{"a password as a literal", "",
		addTo(deployment, container+"env", variableOf("KILN_MONGO_PASSWORD", "hunter2")),
		"passwords", "KILN_MONGO_PASSWORD"},
	{"a password in a link", "",
		addTo(deployment, container+"env", variableOf("KILN_DATA_URI", "mongodb://u:p@mongodb-service")),
		"passwords", "mongodb://"},

	{"a Service of nobody's", "", set(service, "spec/selector", object{"app": "kiln"}), "selectors", "not of 0"},
	{"a Service of the Job's too", "minikube + load-job",
		set("Job/kiln-load", "spec/template/metadata/labels/app.kubernetes.io~1name", "kiln"),
		"selectors", "not of 2"},
	{"a Service without a selector", "", remove(service, "spec/selector"), "selectors", service},
	{"a Service to no port", "", set(service, "spec/ports/http/targetPort", "web"), "selectors", "targetPort web"},
	{"a Deployment of other pods", "", set(deployment, "spec/selector/matchLabels", object{"app": "kiln"}),
		"selectors", "spec.selector"},
	{"a spread of other pods", "",
		set(deployment, pod+"topologySpreadConstraints/0/labelSelector/matchLabels", object{"app": "kiln"}),
		"selectors", "topologySpreadConstraints"},
	{"a budget for nobody", "", set("PodDisruptionBudget/kiln", "spec/selector/matchLabels", object{"app": "kiln"}),
		"selectors", "PodDisruptionBudget/kiln"},
	{"a budget with both bounds", "", set("PodDisruptionBudget/kiln", "spec/minAvailable", 1),
		"selectors", "minAvailable"},
	{"a policy for nobody", "minikube + network-policy",
		set("NetworkPolicy/kiln", "spec/podSelector/matchLabels", object{"app": "kiln"}),
		"selectors", "NetworkPolicy/kiln"},
	{"a policy of no port", "minikube + network-policy",
		set("NetworkPolicy/kiln", "spec/ingress/0/ports/0/port", "web"),
		"selectors", "port web"},
	{"a monitor of no port", "minikube + monitoring",
		set("ServiceMonitor/kiln", "spec/endpoints/0/port", "metrics"),
		"selectors", `"metrics"`},
	{"a monitor of nobody", "minikube + monitoring",
		set("ServiceMonitor/kiln", "spec/selector/matchLabels", object{"app": "kiln"}),
		"selectors", "not 0"},

	{"an Ingress to nowhere", "minikube + ingress",
		set("Ingress/kiln", "spec/rules/0/http/paths/0/backend/service/name", "web"),
		"backends", "no Service web"},
	{"a route to no port", "minikube + gateway", set("HTTPRoute/kiln", "spec/rules/0/backendRefs/kiln/port", 8080),
		"backends", "no such port"},
	{"a StatefulSet without its Service", "minikube-mongodb", set(database, "spec/serviceName", "mongodb"),
		"backends", "headless"},

	{"the admin port exposed", "doks",
		addTo(service, "spec/ports", object{"name": "admin", "port": 81, "targetPort": 8081}),
		"exposed ports", "leads to the admin port"},
	{"the admin port open to all pods", "doks", set("NetworkPolicy/kiln-admin", "spec/ingress", []any{}),
		"exposed ports", "NetworkPolicy"},

	{"a balancer's setting misspelt", "doks",
		set(service, "metadata/annotations/"+balancer+"allow-rule", "ip:192.0.2.1"), "load balancer", "allow-rule "},
	{"a balancer's setting without effect", "doks",
		set(service, "metadata/annotations/"+balancer+"healthcheck-path", "/livez"), "load balancer", "override"},
	{"a balancer's setting for no balancer", "doks", set(service, "spec/type", "NodePort"),
		"load balancer", "is for a LoadBalancer"},

	{"replicas beside an autoscaler", "", set(deployment, "spec/replicas", 2), "replicas", "spec.replicas"},
	{"an autoscaler of nothing", "", set(autoscaler, "spec/scaleTargetRef/name", "kiln-server"),
		"autoscaler", "there is no apps/v1 Deployment kiln-server"},
	{"an autoscaler of no such version", "", set(autoscaler, "spec/scaleTargetRef/apiVersion", "v1"),
		"autoscaler", "there is no v1 Deployment"},
	{"minimum above maximum", "", set(autoscaler, "spec/minReplicas", 11), "autoscaler", "at most the maximum"},
	{"two autoscalers", "minikube + autoscale-keda", add(secondAutoscaler), "autoscaler", "not 2"},
	{"no autoscaler", "", func(copied *Copy) { copied.Set(autoscaler, "kind", "ConfigMap") },
		"autoscaler", "not 0"},
	{"memory alone", "", set(autoscaler, "spec/metrics/0/resource/name", "memory"), "autoscaler", "keep cpu"},
	{"a target without a value", "", remove(autoscaler, "spec/metrics/0/resource/target/averageUtilization"),
		"autoscaler", "Utilization"},
	{"a target that never triggers", "", set(autoscaler, "spec/metrics/0/resource/target/averageUtilization", 0),
		"autoscaler", "above zero"},
	{"a window too long", "minikube + behavior-demo",
		set(autoscaler, "spec/behavior/scaleDown/stabilizationWindowSeconds", 3601),
		"autoscaler", "3600"},
	{"a trigger of no such metadata", "minikube + autoscale-keda",
		set("ScaledObject/kiln", "spec/triggers/0/metadata/treshold", "1"),
		"autoscaler", "treshold"},
	{"a trigger without a threshold", "minikube + autoscale-keda",
		remove("ScaledObject/kiln", "spec/triggers/0/metadata/threshold"),
		"autoscaler", "threshold"},

	{"fewer pods during a rollout", "", set(deployment, "spec/strategy/rollingUpdate/maxUnavailable", 1),
		"rollout", "maxUnavailable"},
	{"preStop", "",
		set(deployment, container+"lifecycle", object{"preStop": object{"exec": object{"command": []any{"sync"}}}}),
		"rollout", "preStop"},

	{"a variable that nobody reads", "", addTo(deployment, container+"env", variableOf("KILN_COSTS", "/=5ms")),
		"environment", "KILN_COSTS"},
	{"another program's variable", "", addTo(deployment, container+"env", variableOf("GOMAXPROCS", "1")),
		"environment", "GOMAXPROCS"},
	{"a variable twice", "", addTo(deployment, container+"env", variableOf("KILN_COST", "/=1ms")),
		"environment", "twice"},
	{"a value that the program refuses", "", set(deployment, container+"env/KILN_DRAIN_DELAY/value", "5 seconds"),
		"environment", "KILN_DRAIN_DELAY"},
	{"a cost for no route", "", set(deployment, container+"env/KILN_COST/value", "/nowhere=5ms"),
		"environment", "KILN_COST"},
	{"an argument that the program refuses", "", set(deployment, container+"args", []any{"serve", "--portt=1"}),
		"environment", "--portt"},
	{"a port where nobody listens", "", set(deployment, container+"ports/http/containerPort", 80),
		"environment", "8080"},

	{"records on the read-only root", "", set(deployment, container+"volumeMounts/records/mountPath", "/data"),
		"environment", "/var/lib/kiln"},

	{"an identity left out", "", set(deployment, container+"env/POD_IP/name", "KILN_POD"), "identity", "POD_IP"},
	{"an identity of something else", "",
		set(deployment, container+"env/NODE_IP/valueFrom/fieldRef/fieldPath", "status.podIP"),
		"identity", "NODE_IP"},
	{"an identity as a literal", "", func(copied *Copy) {
		copied.Set(deployment, container+"env/NODE_NAME/valueFrom", nil)
		copied.Set(deployment, container+"env/NODE_NAME/value", "node")
	}, "identity", "NODE_NAME"},
	{"CPU in whole cores", "",
		remove(deployment, container+"env/CPU_LIMIT_MILLI/valueFrom/resourceFieldRef/divisor"),
		"identity", "CPU_LIMIT_MILLI"},

	{"a drain that is cut short", "", set(deployment, container+"env/KILN_DRAIN_TIMEOUT/value", "25s"),
		"drain", "terminationGracePeriodSeconds"},
	{"a grace that the defaults fill", "", func(copied *Copy) {
		copied.Set(deployment, container+"env/KILN_DRAIN_TIMEOUT/name", "KILN_BODY_TIMEOUT")
		copied.Set(deployment, pod+"terminationGracePeriodSeconds", 25)
	}, "drain", "25s"},

	{"another kind of Service", "doks", set(service, "spec/type", "NodePort"),
		"contract", "LoadBalancer is promised"},
	{"another target", "doks", set(autoscaler, "spec/metrics/0/resource/target/averageUtilization", 80),
		"contract", "cpu 70 %"},
	{"another minimum", "minikube-mongodb", set(autoscaler, "spec/minReplicas", 1), "contract", "2 is promised"},
	{"other requests", "minikube-mongodb", set(deployment, container+"resources/requests/cpu", "100m"),
		"contract", "200m/250Mi is promised"},
	{"another port", "", set(service, "spec/ports/http/port", 8080), "contract", "80 is promised"},
	{"a Secret of another name", "minikube-mongodb",
		set(deployment, container+"env/MONGO_INITDB_ROOT_PASSWORD/valueFrom/secretKeyRef/name", "mongo"),
		"contract", "Secret mongodb"},

	{"an alert on no metric", "minikube + monitoring",
		set("PrometheusRule/kiln", "spec/groups/kiln/rules/2/expr", "rate(kiln_throttled_total[5m]) > 1"),
		"queries", "kiln_throttled_total"},
	{"an alert on a counter's old name", "minikube + monitoring",
		set("PrometheusRule/kiln", "spec/groups/kiln/rules/2/expr", "http_request_duration_seconds > 1"),
		"queries", "http_request_duration_seconds"},
	{"a label that no sample has", "minikube + monitoring",
		set("PrometheusRule/kiln", "spec/groups/kiln/rules/2/expr", `rate(http_requests_total{status="503"}[1m]) > 1`),
		"queries", "no label status"},
	{"a dashboard that is no JSON", "minikube + monitoring", set("ConfigMap/kiln-dashboard", "data/kiln.json", "{"),
		"queries", "kiln.json"},
	{"a panel of no metric", "minikube + monitoring", panelAsks("kiln_nothing"),
		"queries", "kiln_nothing"},
	{"a panel of no variable", "minikube + monitoring", panelAsks("kiln_up{namespace=$name_space}"),
		"queries", "$name_space"},
	{"a trigger of no metric", "minikube + autoscale-keda",
		set("ScaledObject/kiln", "spec/triggers/0/metadata/query", "sum(kiln_requests)"),
		"queries", "kiln_requests"},
	{"a series of no metric", "minikube + autoscale-requests", func(copied *Copy) {
		copied.adapter = slices.Clone(copied.adapter)
		copied.adapter[0].Rules = []AdapterRule{{SeriesQuery: "http_requests", MetricsQuery: "sum(<<.Series>>)"}}
	}, "queries", "http_requests"},

	{"an alert that is no PromQL", "minikube + monitoring",
		set("PrometheusRule/kiln", "spec/groups/kiln/rules/2/expr", "rate(kiln_burn_rejected_total) > 0"),
		"prometheus rules", "alert rules"},
	{"an alert's text that is no template", "minikube + monitoring",
		set("PrometheusRule/kiln", "spec/groups/kiln/rules/2/annotations/summary", "{{ $labels.pod"),
		"prometheus rules", "template"},
	{"a trigger that only another dialect takes", "minikube + autoscale-keda",
		set("ScaledObject/kiln", "spec/triggers/0/metadata/query", "sum(rate(http_requests_total))"),
		"prometheus rules", "trigger"},

	{"a scrape of no port", "minikube + monitoring",
		set(deployment, "spec/template/metadata/annotations/prometheus.io~1port", "9090"),
		"scrape", "prometheus.io/port"},
	{"a scrape of no such path", "minikube + monitoring",
		set("ServiceMonitor/kiln", "spec/endpoints/0/path", "/metric"), "scrape", "/metrics"},

	{"a metric that no rule makes", "minikube + autoscale-requests",
		set(autoscaler, "spec/metrics/0/pods/metric/name", "requests"),
		"adapter", "makes requests"},
	{"a metric by name of its series", "minikube + autoscale-requests", func(copied *Copy) {
		copied.adapter = slices.Clone(copied.adapter)
		rule := copied.adapter[0].Rules[0]
		rule.Name.As = ""
		copied.adapter[0].Rules = []AdapterRule{rule}
	}, "adapter", "kiln_requests_per_second"},
}

func TestMistakesAreFound(t *testing.T) {
	for _, mistake := range mistakes {
		t.Run(strings.ReplaceAll(mistake.name, " ", "_"), func(t *testing.T) {
			copied := copyOf(t, mistake.on)
			mistake.plant(copied)
			findings := copied.Findings()
			for _, finding := range findings {
				if finding.Check == mistake.check && strings.Contains(finding.String(), mistake.names) {
					return
				}
			}
			t.Errorf("%q should name %q; found: %v", mistake.check, mistake.names, findings)
		})
	}
}

// A check that never found anything might as well not be there.
func TestEveryCheckHasItsMistake(t *testing.T) {
	for _, check := range Checks {
		if !slices.ContainsFunc(mistakes, func(mistake mistake) bool { return mistake.check == check.Name }) {
			t.Errorf("plant a mistake for the check %q", check.Name)
		}
	}
}

// The copies are as good as what they were made of, or the mistakes above would prove nothing.
func TestCopiesAreClean(t *testing.T) {
	seen := map[string]bool{}
	for _, mistake := range mistakes {
		if seen[mistake.on] {
			continue
		}
		seen[mistake.on] = true
		for _, finding := range copyOf(t, mistake.on).Findings() {
			t.Errorf("%s: %s", mistake.on, finding)
		}
	}
}

// Whatever is left out, the checks come to their end: each field in turn.
func TestNothingMissingIsFatal(t *testing.T) {
	seen := map[string]bool{}
	for _, mistake := range mistakes {
		for _, document := range copyOf(t, mistake.on).documents {
			title := textAt(document, "kind") + "/" + textAt(document, "metadata", "name")
			if seen[title] {
				continue
			}
			seen[title] = true
			for _, path := range pathsBelow(document, "") {
				copied := copyOf(t, mistake.on)
				copied.Set(title, path, nil)
				copied.Findings()
			}
		}
	}
}

// Mistakes in the tree itself, before anything is rendered.
func TestTreesAreChecked(t *testing.T) {
	const overlay, rendered = "overlays/minikube/kustomization.yaml", "rendered/minikube.yaml"
	for _, row := range []struct {
		name  string
		plant func(tree Tree)
		names string
	}{
		{"a rendered file that differs", func(tree Tree) { tree[rendered] = append(tree[rendered], '\n') }, rendered},
		{"a rendered file that is missing", func(tree Tree) { delete(tree, rendered) }, rendered},
		{"a rendered file of no overlay", func(tree Tree) { tree["rendered/old.yaml"] = nil }, "rendered/old.yaml"},
		{"an overlay changed, and not rendered", func(tree Tree) {
			tree[overlay] = append(tree[overlay], "namePrefix: a-\n"...)
		}, rendered},
		{"a file that is missing", func(tree Tree) { delete(tree, "base/service.yaml") }, "service.yaml"},
		{"a kustomization's field misspelt", func(tree Tree) {
			tree[overlay] = append(tree[overlay], "patchs: []\n"...)
		}, "patchs"},
		{"a field twice in a source", func(tree Tree) {
			tree["base/service.yaml"] = append(tree["base/service.yaml"], "kind: Service\n"...)
		}, "kind"},
	} {
		t.Run(strings.ReplaceAll(row.name, " ", "_"), func(t *testing.T) {
			tree := maps.Clone(must(t, theTree))
			for name, content := range tree {
				tree[name] = bytes.Clone(content)
			}
			row.plant(tree)
			findings := CheckRendered(tree)
			if !slices.ContainsFunc(findings, func(finding Finding) bool {
				return strings.Contains(finding.String(), row.names)
			}) {
				t.Errorf("should name %q; found: %v", row.names, findings)
			}
		})
	}
}

func TestAdapterFilesAreReadStrictly(t *testing.T) {
	for _, row := range []struct{ name, text, names string }{
		{"a field misspelt", "rules: {custom: [{seriesQueri: a}]}", "seriesQueri"},
		{"a field twice", "rules: {default: false, default: true}", "default"},
		{"a list that is none", "rules: {custom: {}}", "custom"},
	} {
		_, errs := readAdapterFile("values", []byte(row.text))
		if len(errs) == 0 || !strings.Contains(errs[0].Error(), row.names) {
			t.Errorf("%s: should name %q; found: %v", row.name, row.names, errs)
		}
	}
}

func TestAdapterNamesItsMetrics(t *testing.T) {
	for _, row := range []struct{ series, matches, as, metric string }{
		{`http_requests_total{pod!=""}`, "", "", "http_requests_total"},
		{"http_requests_total", "^(.*)_total$", "", "http_requests"},
		{"http_requests_total", "^(.*)_total$", "${1}_per_second", "http_requests_per_second"},
		{"http_requests_total", "", "requests", "requests"},
		{"http_requests_total", "_count$", "requests", ""},
	} {
		rule := AdapterRule{SeriesQuery: row.series}
		rule.Name.Matches, rule.Name.As = row.matches, row.as
		if metric, err := rule.metric(); metric != row.metric || err != nil {
			t.Errorf("%v: made %q (%v)", row, metric, err)
		}
	}
}
