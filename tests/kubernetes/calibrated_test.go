package main

import (
	"maps"
	"os"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

var theCalibratedTree = sync.OnceValues(func() (Tree, error) {
	tree, err := theTree()
	if err != nil {
		return nil, err
	}
	world, err := theWorld()
	if err != nil {
		return nil, err
	}
	return world.Kiln.Calibrated(os.Getenv("KILN_TOP"), tree)
})

const calibratedFile = "components/" + calibrated + "/kustomization.yaml"

// Each of these is a component that would do harm.
func TestCalibratedComponentsThatDoOtherwiseAreFound(t *testing.T) {
	for name, plant := range map[string]struct{ old, new, wanted string }{
		"another target":       {"value: 60\n", "value: 61\n", "a target of 60 %"},
		"another request":      {"value: 150m\n", "value: 151m\n", "cpu 150m to 600m"},
		"another limit":        {"value: 600m\n", "value: 601m\n", "cpu 150m to 600m"},
		"memory":               {"requests/cpu\n", "requests/memory\n", "nothing else should differ"},
		"an unknown path":      {"limits/cpu\n", "limit/cpu\n", "limit/cpu"},
		"no autoscaler's name": {"HorizontalPodAutoscaler\n      name: 'kiln'", "HorizontalPodAutoscaler\n      name: 'x'", "60 %"},
	} {
		t.Run(name, func(t *testing.T) {
			with := maps.Clone(must(t, theCalibratedTree))
			text := string(with[calibratedFile])
			if !strings.Contains(text, plant.old) {
				t.Fatalf("nothing spells %q in\n%s", plant.old, text)
			}
			with[calibratedFile] = []byte(strings.Replace(text, plant.old, plant.new, 1))
			findings := CheckCalibrated(with, "minikube", must(t, theWorld))
			for _, finding := range findings {
				if strings.Contains(finding.String(), plant.wanted) {
					return
				}
			}
			t.Errorf("no finding says %q: %v", plant.wanted, findings)
		})
	}
}

func TestCalibratedComponentAsItIsHasNoFindings(t *testing.T) {
	if findings := CheckCalibrated(must(t, theCalibratedTree), "minikube", must(t, theWorld)); len(findings) > 0 {
		t.Error(findings)
	}
}

// onTopOf renders the component after another one.
func onTopOf(t *testing.T, component string) (Manifests, []Finding) {
	t.Helper()
	with := maps.Clone(must(t, theCalibratedTree))
	with["components/both/kustomization.yaml"] = []byte("apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n" +
		"components: [../" + component + ", ../" + calibrated + "]\n")
	return with.Manifests(Combination{Overlay: "doks", Component: "both"})
}

func TestCalibratedTargetIsOfNoOtherMetric(t *testing.T) {
	for _, component := range []string{"autoscale-requests", "autoscale-latency"} {
		if _, findings := onTopOf(t, component); len(findings) != 1 || findings[0].Check != "render" {
			t.Errorf("%s: the target of another metric was changed, or something else is wrong: %v", component, findings)
		}
	}
}

func TestCalibratedComponentLeavesKedaAlone(t *testing.T) {
	manifests, findings := onTopOf(t, "autoscale-keda")
	if len(findings) > 0 {
		t.Fatal(findings)
	}
	if autoscalers := All[*autoscalingv2.HorizontalPodAutoscaler](manifests); len(autoscalers) > 0 {
		t.Error("there is an autoscaler again")
	}
	resources := All[*appsv1.Deployment](manifests)[deployment].Spec.Template.Spec.Containers[0].Resources
	if got := resources.Requests.Cpu().String(); got != calibratedRequest {
		t.Errorf("requests %s", got)
	}
}
