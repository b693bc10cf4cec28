package main

import (
	"cmp"
	"fmt"
	"slices"
)

// A Check looks at one rendering and reports what it finds.
type Check struct {
	Name string
	Run  func(manifests Manifests, world *World, find Find)
}

// Find reports: the object's title, and what is wanted of it, naming the field.
type Find func(object, wanted string, arguments ...any)

// Each check on its own is one thing that goes wrong with manifests in real life.
var Checks = []Check{
	// Objects, one by one: schema.go.
	{"schema", checkSchema},
	{"names", checkNames},
	{"labels", checkLabels},
	// Pods: pods.go.
	{"pod security", checkPodSecurity},
	{"read-only root", checkReadOnlyRoot},
	{"volumes", checkVolumes},
	{"service account token", checkToken},
	{"service links", checkServiceLinks},
	{"resources", checkResources},
	{"image tag", checkImages},
	{"probes", checkProbes},
	{"passwords", checkPasswords},
	// What points at what: selectors.go.
	{"selectors", checkSelectors},
	{"backends", checkBackends},
	{"exposed ports", checkExposedPorts},
	{"load balancer", checkLoadBalancer}, // digitalocean.go
	// Scaling and rollout: scaling.go.
	{"replicas", checkReplicas},
	{"autoscaler", checkAutoscalers},
	{"rollout", checkRollout},
	// Kiln's own container, by asking the program: environment.go.
	{"environment", checkEnvironment},
	{"identity", checkIdentity},
	{"drain", checkDrain},
	// What this project promises for each overlay: contract.go.
	{"contract", checkContract},
	// Queries and what they ask: queries.go, and who makes metrics of them: adapter.go.
	{"queries", checkQueries},
	{"prometheus rules", checkRules},
	{"scrape", checkScrape},
	{"adapter", checkAdapter},
}

// Check runs all checks; the findings come in a fixed order.
func (manifests Manifests) Check(world *World) []Finding {
	var findings []Finding
	for _, check := range Checks {
		var found []Finding
		check.Run(manifests, world, func(object, wanted string, arguments ...any) {
			found = append(found, Finding{check.Name, object, fmt.Sprintf(wanted, arguments...)})
		})
		slices.SortFunc(found, func(a, b Finding) int {
			return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Wanted, b.Wanted))
		})
		findings = append(findings, slices.Compact(found)...)
	}
	return findings
}
