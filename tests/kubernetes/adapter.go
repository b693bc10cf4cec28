package main

import (
	"path"
	"regexp"
	"slices"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// An AdapterFile holds values for prometheus-adapter's chart, beside the component whose metrics it makes.
type AdapterFile struct {
	Path  string
	Rules []AdapterRule
}

// An AdapterRule makes a metric of series (github.com/kubernetes-sigs/prometheus-adapter, docs/config.md).
type AdapterRule struct {
	SeriesQuery   string              `json:"seriesQuery"`
	SeriesFilters []map[string]string `json:"seriesFilters,omitempty"`
	Resources     struct {
		Template  string `json:"template,omitempty"`
		Overrides map[string]struct {
			Group    string `json:"group,omitempty"`
			Resource string `json:"resource"`
		} `json:"overrides,omitempty"`
	} `json:"resources"`
	Name struct {
		Matches string `json:"matches,omitempty"`
		As      string `json:"as,omitempty"`
	} `json:"name"`
	MetricsQuery string `json:"metricsQuery"`
}

const adapterFile = "prometheus-adapter.yaml"

func (tree Tree) adapterFiles(combination Combination) ([]AdapterFile, []Finding) {
	var files []AdapterFile
	var findings []Finding
	for _, folder := range combination.Folders {
		name := path.Join(folder, adapterFile)
		text, exists := tree[name]
		if !exists {
			continue
		}
		file, errs := readAdapterFile(name, text)
		for _, err := range errs {
			findings = append(findings, Finding{"schema", name, err.Error()})
		}
		files = append(files, file)
	}
	return files, findings
}

func readAdapterFile(name string, text []byte) (AdapterFile, []error) {
	var values struct {
		Rules struct {
			Default bool          `json:"default"`
			Custom  []AdapterRule `json:"custom"`
		} `json:"rules"`
	}
	plain, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return AdapterFile{Path: name}, []error{err}
	}
	wrong, err := json.UnmarshalStrict(plain, &values)
	if err != nil {
		wrong = append(wrong, err)
	}
	return AdapterFile{Path: name, Rules: values.Rules.Custom}, wrong
}

var firstName = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*`)

func (rule AdapterRule) series() string { return firstName.FindString(rule.SeriesQuery) }

// expand fills in what the adapter would for one pod.
func (rule AdapterRule) expand() string {
	return strings.NewReplacer(
		"<<.Series>>", rule.series(), "<<.LabelMatchers>>", `namespace="default",pod=~"a|b"`, "<<.GroupBy>>", "pod",
	).Replace(rule.MetricsQuery)
}

// metric is the name under which the rule serves its series.
func (rule AdapterRule) metric() (string, error) {
	matches, as := rule.Name.Matches, rule.Name.As
	if matches == "" {
		matches = ".*"
	}
	pattern, err := regexp.Compile(matches)
	if err != nil {
		return "", err
	}
	if as == "" {
		// The adapter's default: the first group where there is one.
		as = "$0"
		if pattern.NumSubexp() > 0 {
			as = "$1"
		}
	}
	groups := pattern.FindStringSubmatchIndex(rule.series())
	if groups == nil {
		return "", nil
	}
	return string(pattern.ExpandString(nil, as, rule.series(), groups)), nil
}

// checkAdapter: what an autoscaler asks of the custom metrics API, a rule that comes along must make.
func checkAdapter(manifests Manifests, _ *World, find Find) {
	var made []string
	for _, file := range manifests.Adapter {
		for _, rule := range file.Rules {
			metric, err := rule.metric()
			if err != nil || metric == "" {
				find(file.Path, "name: makes no metric of %s (%v)", rule.series(), err)
			}
			made = append(made, metric)
			for _, resource := range []string{"namespace", "pod"} {
				if rule.Resources.Overrides[resource].Resource != resource && rule.Resources.Template == "" {
					find(file.Path, "resources: %s should say which label is the %s", metric, resource)
				}
			}
			if strings.Contains(rule.expand(), "<<") {
				find(file.Path, "metricsQuery: %s has a template that is unknown here", metric)
			}
		}
	}
	for title, autoscaler := range All[*autoscalingv2.HorizontalPodAutoscaler](manifests) {
		for _, metric := range autoscaler.Spec.Metrics {
			if metric.Pods != nil && !slices.Contains(made, metric.Pods.Metric.Name) {
				find(title, "spec.metrics: no rule of a %s makes %s", adapterFile, metric.Pods.Metric.Name)
			}
			if metric.Object != nil || metric.External != nil {
				find(title, "spec.metrics: nothing here makes metrics of type %s", metric.Type)
			}
		}
	}
}
