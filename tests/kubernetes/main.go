// Holds the manifests in k8s/ to what they promise, without a cluster:
//
//	manifests render     writes k8s/rendered/
//	manifests check      renders every overlay, every component on every overlay, and what `kiln calibrate --patch` writes
//	                     on every overlay, and checks each object
//
// tree.go renders, object.go and schema.go say what is a well-formed object, checks.go lists everything else. A finding
// is one line: where, the check, the object, and what is wanted there.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	top := flag.String("top", ".", "top of the source tree")
	kiln := flag.String("kiln", "", "the kiln binary; for check")
	flag.Parse()
	var err error
	switch flag.Arg(0) {
	case "render":
		err = render(filepath.Join(*top, "k8s"))
	case "check":
		err = check(*top, *kiln)
	default:
		flag.Usage()
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// render writes what is missing or differs, and removes what belongs to no overlay.
func render(directory string) error {
	tree, err := ReadTree(directory)
	if err != nil {
		return err
	}
	rendered, err := tree.Rendered()
	if err != nil {
		return err
	}
	for path := range tree.Below("rendered") {
		if _, wanted := rendered[path]; !wanted {
			if err := os.Remove(filepath.Join(directory, path)); err != nil {
				return err
			}
		}
	}
	for path, content := range rendered {
		if string(tree[path]) == string(content) {
			continue
		}
		file := filepath.Join(directory, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, content, 0o644); err != nil {
			return err
		}
		fmt.Println("wrote", file)
	}
	return nil
}

func check(top, binary string) error {
	directory := filepath.Join(top, "k8s")
	tree, err := ReadTree(directory)
	if err != nil {
		return err
	}
	world, err := Look(top, binary)
	if err != nil {
		return err
	}
	findings := 0
	findings += report("k8s/rendered", "every file is what its overlay gives", CheckRendered(tree))
	if HasKubectl() {
		findings += report("kubectl", "renders every overlay alike", CheckAgainstKubectl(tree, directory))
	} else {
		fmt.Printf("kubectl: NOT COMPARED: there is none of 1.%d or later\n", kubectlMinor)
	}
	for _, combination := range tree.Combinations() {
		if combination.Included {
			fmt.Printf("%s: the overlay has the component already\n", combination)
			continue
		}
		manifests, failed := tree.Manifests(combination)
		failed = append(failed, manifests.Check(world)...)
		what := fmt.Sprintf("%d objects, %d checks", len(manifests.Objects), len(Checks))
		findings += report(combination.String(), what, failed)
	}
	with, err := world.Kiln.Calibrated(top, tree)
	if err != nil {
		return err
	}
	for _, overlay := range with.Overlays() {
		findings += report(overlay+" + "+calibrated, "CPU and target change, nothing else", CheckCalibrated(with, overlay, world))
	}
	if HasKubectl() {
		findings += report("kubectl", "takes the calibrated component alike", CheckCalibratedAgainstKubectl(with))
	}
	if findings > 0 {
		return fmt.Errorf("%d findings", findings)
	}
	return nil
}

func report(where, what string, findings []Finding) int {
	if len(findings) == 0 {
		fmt.Printf("%s: ok: %s\n", where, what)
	}
	for _, finding := range findings {
		fmt.Printf("%s: %s\n", where, finding)
	}
	return len(findings)
}
