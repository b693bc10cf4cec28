package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
)

// The component that `kiln calibrate --patch` writes, in a copy of the tree.
const calibrated = "calibrated"

// What it is asked for: other values than any overlay has. The limit is that of testdata/calibration.json.
const (
	calibratedRequest = "150m"
	calibratedLimit   = "600m"
	calibratedTarget  = int32(60)
)

// Calibrated asks the program for the component, and gives a copy of the tree that has it. No server is measured: the
// figures come from a file.
func (kiln *Kiln) Calibrated(top string, tree Tree) (Tree, error) {
	directory, err := os.MkdirTemp("", "kiln-calibrated-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(directory)
	folder := filepath.Join(directory, "patch")
	command := exec.Command(kiln.binary, "calibrate", "--patch", folder, "--request", calibratedRequest,
		"--target", fmt.Sprint(calibratedTarget), "--from",
		filepath.Join(top, "tests", "kubernetes", "testdata", "calibration.json"))
	var complaint strings.Builder
	command.Stderr = &complaint
	if err := command.Run(); err != nil {
		return nil, fmt.Errorf("kiln calibrate: %w: %s", err, complaint.String())
	}
	written, err := ReadFolder(folder)
	if err != nil {
		return nil, err
	}
	if written["kustomization.yaml"] == nil {
		return nil, errors.New("kiln calibrate --patch wrote no kustomization.yaml")
	}
	with := maps.Clone(tree)
	for name, content := range written {
		with[path.Join("components", calibrated, name)] = content
	}
	return with, nil
}

// CheckCalibrated wants the component to change what it is for, and nothing else of the overlay.
func CheckCalibrated(with Tree, overlay string, world *World) []Finding {
	folders := with.reaches(path.Join("overlays", overlay))
	before, failed := with.Manifests(Combination{Overlay: overlay, Folders: folders})
	if len(failed) > 0 {
		return failed
	}
	after, failed := with.Manifests(Combination{Overlay: overlay, Component: calibrated, Folders: folders})
	if len(failed) > 0 {
		return failed
	}
	findings := after.Check(world)
	find := func(title, wanted string) { findings = append(findings, Finding{"calibrated", title, wanted}) }

	// What the overlay alone should have become.
	if deployment := All[*appsv1.Deployment](before)[kilnTitle]; deployment != nil {
		resources := deployment.Spec.Template.Spec.Containers[0].Resources
		resources.Requests[corev1.ResourceCPU] = resource.MustParse(calibratedRequest)
		resources.Limits[corev1.ResourceCPU] = resource.MustParse(calibratedLimit)
	} else {
		find(kilnTitle, "should exist")
	}
	const title = "HorizontalPodAutoscaler/kiln"
	if autoscaler := All[*autoscalingv2.HorizontalPodAutoscaler](before)[title]; autoscaler != nil {
		target := calibratedTarget
		autoscaler.Spec.Metrics[0].Resource.Target.AverageUtilization = &target
	} else {
		find(title, "should exist")
	}
	same := slices.EqualFunc(before.Objects, after.Objects, func(one, other Object) bool { return one.Title == other.Title })
	if !same {
		find(overlay, "should have the same objects with the component")
		return findings
	}
	for i, object := range before.Objects {
		if !equality.Semantic.DeepEqual(object.Typed, after.Objects[i].Typed) {
			find(object.Title, fmt.Sprintf("should have cpu %s to %s and a target of %d %%, and nothing else should differ",
				calibratedRequest, calibratedLimit, calibratedTarget))
		}
	}
	return findings
}

// CheckCalibratedAgainstKubectl wants kubectl to take the component as we do.
func CheckCalibratedAgainstKubectl(with Tree) []Finding {
	failed := func(err error) []Finding { return []Finding{{"kubectl", calibrated, err.Error()}} }
	directory, err := os.MkdirTemp("", "kiln-calibrated-")
	if err != nil {
		return failed(err)
	}
	defer os.RemoveAll(directory)
	if err := with.Write(directory); err != nil {
		return failed(err)
	}
	var findings []Finding
	for _, overlay := range with.Overlays() {
		combination := Combination{Overlay: overlay, Component: calibrated}
		together := Tree{"together/kustomization.yaml": combination.together()}
		if err := together.Write(directory); err != nil {
			return failed(err)
		}
		theirs, err := exec.Command("kubectl", "kustomize", filepath.Join(directory, "together")).CombinedOutput()
		ours, ourError := with.Render(combination)
		switch {
		case err != nil:
			findings = append(findings, Finding{"kubectl", combination.String(), string(theirs)})
		case ourError == nil && !bytes.Equal(ours, theirs):
			findings = append(findings, Finding{"kubectl", combination.String(), "is rendered otherwise"})
		}
	}
	return findings
}
