package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/VictoriaMetrics/metricsql"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

// A Query is PromQL that stands somewhere in the manifests.
type Query struct {
	Title, Where, Text string
}

// What kube-state-metrics tells of autoscalers, as far as it is used here
// (github.com/kubernetes/kube-state-metrics, docs/metrics/workload/horizontalpodautoscaler-metrics.md).
var clusterMetrics = []string{
	"kube_horizontalpodautoscaler_spec_max_replicas",
	"kube_horizontalpodautoscaler_spec_min_replicas",
	"kube_horizontalpodautoscaler_status_condition",
	"kube_horizontalpodautoscaler_status_current_replicas",
	"kube_horizontalpodautoscaler_status_desired_replicas",
}

// Labels that Prometheus gives every sample of a target it found through Kubernetes.
var targetLabels = []string{"namespace", "pod", "node", "container", "endpoint", "service", "job", "instance"}

func queries(manifests Manifests, find Find) []Query {
	var all []Query
	for title, rule := range All[*monitoringv1.PrometheusRule](manifests) {
		for _, group := range rule.Spec.Groups {
			for _, rule := range group.Rules {
				all = append(all, Query{title, "rule " + rule.Alert + rule.Record, rule.Expr.String()})
			}
		}
	}
	for title, object := range All[*corev1.ConfigMap](manifests) {
		if object.Labels["grafana_dashboard"] == "" {
			continue
		}
		for name, text := range object.Data {
			all = append(all, dashboardQueries(title, name, text, find)...)
		}
	}
	for title, scaled := range All[*ScaledObject](manifests) {
		for _, trigger := range scaled.Spec.Triggers {
			if trigger.Type == "prometheus" {
				all = append(all, Query{title, "trigger", trigger.Metadata["query"]})
			}
		}
	}
	for _, file := range manifests.Adapter {
		for _, rule := range file.Rules {
			all = append(all, Query{file.Path, "seriesQuery of " + rule.Name.As, rule.SeriesQuery})
			all = append(all, Query{file.Path, "metricsQuery of " + rule.Name.As, rule.expand()})
		}
	}
	return all
}

// A dashboard, as much of it as holds queries.
type dashboard struct {
	Panels     []panel
	Templating struct {
		List []struct {
			Name, Type string
			Query      any
		}
	}
}

type panel struct {
	Title   string
	Targets []struct{ Expr string }
	Panels  []panel // of a collapsed row
}

var (
	labelValues = regexp.MustCompile(`^label_values\((.+), *[a-z_]+\)$`)
	variable    = regexp.MustCompile(`\$(?:\{([a-z_]+)(?::[a-z]+)?\}|([a-z_]+))`)
	interval    = regexp.MustCompile(`\$(__rate_interval|__interval|__range)\b`)
)

func dashboardQueries(title, name, text string, find Find) []Query {
	var board dashboard
	if err := json.Unmarshal([]byte(text), &board); err != nil {
		find(title, "%s: %s", name, err)
		return nil
	}
	var variables []string
	var found []Query
	for _, item := range board.Templating.List {
		variables = append(variables, item.Name)
		query, _ := item.Query.(string)
		if item.Type == "query" && query == "" {
			query = textAt(item.Query, "query")
		}
		if values := labelValues.FindStringSubmatch(query); values != nil {
			found = append(found, Query{title, name + ", variable " + item.Name, values[1]})
		}
	}
	var visit func(panels []panel)
	visit = func(panels []panel) {
		for _, panel := range panels {
			where := fmt.Sprintf("%s, panel %q", name, panel.Title)
			for _, target := range panel.Targets {
				expression := interval.ReplaceAllString(target.Expr, "5m")
				for _, used := range variable.FindAllStringSubmatch(expression, -1) {
					if name := used[1] + used[2]; !slices.Contains(variables, name) {
						find(title, "%s: $%s is no variable of the dashboard", where, name)
					}
				}
				found = append(found, Query{title, where, variable.ReplaceAllString(expression, "value")})
			}
			visit(panel.Panels)
		}
	}
	visit(board.Panels)
	if len(found) == 0 {
		find(title, "%s: holds no query", name)
	}
	return found
}

// checkQueries: a query for a metric that nobody tells is not an error to Prometheus, but silence.
func checkQueries(manifests Manifests, world *World, find Find) {
	for _, query := range queries(manifests, find) {
		expression, err := metricsql.Parse(query.Text)
		if err != nil {
			find(query.Title, "%s: %s", query.Where, err)
			continue
		}
		metricsql.VisitAll(expression, func(part metricsql.Expr) {
			selector, is := part.(*metricsql.MetricExpr)
			if !is {
				return
			}
			for _, filters := range selector.LabelFilterss {
				checkSeries(query, filters, world, find)
			}
		})
	}
}

func checkSeries(query Query, filters []metricsql.LabelFilter, world *World, find Find) {
	if len(filters) == 0 || filters[0].Label != "__name__" || filters[0].IsRegexp || filters[0].IsNegative {
		find(query.Title, "%s: should name its metric", query.Where)
		return
	}
	metric := filters[0].Value
	if slices.Contains(clusterMetrics, metric) {
		return
	}
	labels, known := world.Kiln.Knows(metric)
	if !known {
		find(query.Title, "%s: kiln has no metric %s", query.Where, metric)
		return
	}
	for _, filter := range filters[1:] {
		if !labels[filter.Label] && !slices.Contains(targetLabels, filter.Label) {
			find(query.Title, "%s: %s has no label %s", query.Where, metric, filter.Label)
		}
	}
}

// checkScrape: the annotations that a Prometheus without an operator goes by.
func checkScrape(manifests Manifests, _ *World, find Find) {
	for _, workload := range Workloads(manifests) {
		annotations := workload.Template.Annotations
		if annotations["prometheus.io/scrape"] == "" {
			continue
		}
		if !hasPort(workload, intstr.Parse(annotations["prometheus.io/port"])) {
			find(workload.Title, "the annotation prometheus.io/port should be a port of the pod")
		}
		if path := annotations["prometheus.io/path"]; path != "" && path != "/metrics" {
			find(workload.Title, "the annotation prometheus.io/path should be /metrics")
		}
	}
	for title, monitor := range All[*monitoringv1.ServiceMonitor](manifests) {
		for _, endpoint := range monitor.Spec.Endpoints {
			if endpoint.Path != "" && endpoint.Path != "/metrics" {
				find(title, "spec.endpoints: path should be /metrics")
			}
		}
	}
}

// checkRules has promtool look at the alert rules as they are, and at every other query as a rule made of it: its
// grammar is Prometheus' own.
func checkRules(manifests Manifests, _ *World, find Find) {
	type rule struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	for title, object := range All[*monitoringv1.PrometheusRule](manifests) {
		promtool(title, "alert rules", object.Spec, find)
	}
	for _, query := range queries(manifests, func(string, string, ...any) {}) { // checkQueries reports
		file := map[string]any{"groups": []any{map[string]any{
			"name": "query", "rules": []rule{{Record: "query", Expr: query.Text}},
		}}}
		if !strings.HasPrefix(query.Where, "rule ") {
			promtool(query.Title, query.Where, file, find)
		}
	}
}

// What promtool said, by the text of the rules: every overlay brings the same ones.
var promtoolSaid = map[string]string{}

func promtool(title, where string, rules any, find Find) {
	text, err := yaml.Marshal(rules)
	if err != nil {
		find(title, "%s: %s", where, err)
		return
	}
	said, asked := promtoolSaid[string(text)]
	if !asked {
		said = askPromtool(text)
		promtoolSaid[string(text)] = said
	}
	if said != "" {
		find(title, "%s: %s", where, said)
	}
}

func askPromtool(rules []byte) string {
	directory, err := os.MkdirTemp("", "kiln-rules-")
	if err != nil {
		return err.Error()
	}
	defer os.RemoveAll(directory)
	file := filepath.Join(directory, "rules.yaml")
	if err := os.WriteFile(file, rules, 0o600); err != nil {
		return err.Error()
	}
	output, err := exec.Command("promtool", "check", "rules", file).CombinedOutput()
	if err == nil {
		return ""
	}
	return strings.Join(strings.Fields(strings.ReplaceAll(string(output), file, "")), " ") + " (" + err.Error() + ")"
}
