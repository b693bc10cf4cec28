package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// A Tree is the folder k8s/ in memory, by path inside it: so a test can plant a mistake in a copy.
type Tree map[string][]byte

func ReadTree(directory string) (Tree, error) {
	tree, err := ReadFolder(directory)
	if err == nil && len(tree.Overlays()) == 0 {
		err = fmt.Errorf("%s: no overlays", directory)
	}
	return tree, err
}

// ReadFolder reads every file in a folder.
func ReadFolder(directory string) (Tree, error) {
	tree := Tree{}
	err := fs.WalkDir(os.DirFS(directory), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		tree[name], err = os.ReadFile(filepath.Join(directory, name))
		return err
	})
	return tree, err
}

// Write writes every file into a folder.
func (tree Tree) Write(directory string) error {
	for name, content := range tree {
		file := filepath.Join(directory, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Below yields the files in a folder, in order.
func (tree Tree) Below(folder string) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for _, name := range slices.Sorted(maps.Keys(tree)) {
			if strings.HasPrefix(name, folder+"/") && !yield(name, tree[name]) {
				return
			}
		}
	}
}

func (tree Tree) Overlays() []string   { return tree.kustomizations("overlays") }
func (tree Tree) Components() []string { return tree.kustomizations("components") }

func (tree Tree) kustomizations(folder string) []string {
	var names []string
	for file := range tree.Below(folder) {
		// Deeper ones are parts of one of these.
		if is, _ := path.Match(folder+"/*/kustomization.yaml", file); is {
			names = append(names, path.Base(path.Dir(file)))
		}
	}
	return names
}

// A Combination is an overlay, alone or with one component on top.
type Combination struct {
	Overlay   string
	Component string   // empty: the overlay alone
	Included  bool     // the overlay brings the component itself, so it is not rendered twice
	Folders   []string // every kustomization that takes part, by path inside k8s/
}

func (combination Combination) String() string {
	if combination.Component == "" {
		return combination.Overlay
	}
	return combination.Overlay + " + " + combination.Component
}

// together is the kustomization of an overlay with a component, in a folder beside overlays/ and components/.
func (combination Combination) together() []byte {
	return fmt.Appendf(nil, "resources: [../overlays/%s]\ncomponents: [../components/%s]\n",
		combination.Overlay, combination.Component)
}

func (tree Tree) Combinations() []Combination {
	var all []Combination
	for _, overlay := range tree.Overlays() {
		folders := tree.reaches(path.Join("overlays", overlay))
		all = append(all, Combination{Overlay: overlay, Folders: folders})
		for _, component := range tree.Components() {
			added := tree.reaches(path.Join("components", component))
			all = append(all, Combination{
				Overlay: overlay, Component: component, Included: slices.Contains(folders, added[0]),
				Folders: slices.Concat(folders, added),
			})
		}
	}
	return all
}

// reaches lists a kustomization's folder and, after it, all that it builds on.
func (tree Tree) reaches(folder string) []string {
	folders := []string{folder}
	var kustomization types.Kustomization
	if yaml.Unmarshal(tree[path.Join(folder, "kustomization.yaml")], &kustomization) != nil {
		return folders // rendering it will tell
	}
	for _, reference := range slices.Concat(kustomization.Resources, kustomization.Components) {
		below := path.Join(folder, reference)
		if _, is_folder := tree[path.Join(below, "kustomization.yaml")]; is_folder {
			folders = append(folders, tree.reaches(below)...)
		}
	}
	return folders
}

// Render is `kubectl kustomize` of the combination.
func (tree Tree) Render(combination Combination) ([]byte, error) {
	files := filesys.MakeFsInMemory()
	for name, content := range tree {
		if err := files.WriteFile(path.Join("/k8s", name), content); err != nil {
			return nil, err
		}
	}
	folder := path.Join("/k8s/overlays", combination.Overlay)
	if combination.Component != "" {
		folder = "/k8s/together"
		if err := files.WriteFile(path.Join(folder, "kustomization.yaml"), combination.together()); err != nil {
			return nil, err
		}
	}
	// The order of `kubectl kustomize`: first what others need.
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionUnspecified
	objects, err := krusty.MakeKustomizer(options).Run(files, folder)
	if err != nil {
		return nil, err
	}
	return objects.AsYaml()
}

// Rendered gives what belongs into k8s/rendered/, by path inside k8s/.
func (tree Tree) Rendered() (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, overlay := range tree.Overlays() {
		content, err := tree.Render(Combination{Overlay: overlay})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", overlay, err)
		}
		files[path.Join("rendered", overlay+".yaml")] = content
	}
	return files, nil
}

// CheckRendered wants k8s/rendered/ to be what `manifests render` would write.
func CheckRendered(tree Tree) []Finding {
	wanted, err := tree.Rendered()
	if err != nil {
		return []Finding{{"rendered", "k8s", err.Error()}}
	}
	var findings []Finding
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		if !bytes.Equal(tree[name], wanted[name]) {
			findings = append(findings, Finding{"rendered", name, "differs from its overlay: run k8s/render"})
		}
	}
	for name := range tree.Below("rendered") {
		if _, known := wanted[name]; !known {
			findings = append(findings, Finding{"rendered", name, "belongs to no overlay: run k8s/render"})
		}
	}
	return findings
}

// From kubectl 1.25 on it knows all that our kustomizations use.
const kubectlMinor = 25

// HasKubectl tells whether there is a kubectl to compare with.
func HasKubectl() bool {
	version, err := exec.Command("kubectl", "version", "--client", "--output=yaml").Output()
	if err != nil {
		return false
	}
	minor := regexp.MustCompile(`(?m)^ *gitVersion: v1\.([0-9]+)`).FindSubmatch(version)
	if minor == nil {
		return false
	}
	number, err := strconv.Atoi(string(minor[1]))
	return err == nil && number >= kubectlMinor
}

// CheckAgainstKubectl wants kubectl to render every overlay as we do.
func CheckAgainstKubectl(tree Tree, directory string) []Finding {
	var findings []Finding
	for _, overlay := range tree.Overlays() {
		command := exec.Command("kubectl", "kustomize", filepath.Join(directory, "overlays", overlay))
		var complaint strings.Builder
		command.Stderr = &complaint
		theirs, err := command.Output()
		ours, ourError := tree.Render(Combination{Overlay: overlay})
		switch {
		case err != nil:
			findings = append(findings, Finding{"kubectl", "overlays/" + overlay, complaint.String()})
		case ourError == nil && !bytes.Equal(ours, theirs):
			findings = append(findings, Finding{"kubectl", "overlays/" + overlay, "is rendered otherwise"})
		}
	}
	return findings
}
