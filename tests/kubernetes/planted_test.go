package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"sigs.k8s.io/yaml"
)

// Reading the tree and asking the program once is enough: no test changes either.
var (
	theTree = sync.OnceValues(func() (Tree, error) { return ReadTree(filepath.Join(os.Getenv("KILN_TOP"), "k8s")) })

	theWorld = sync.OnceValues(func() (*World, error) { return Look(os.Getenv("KILN_TOP"), os.Getenv("KILN_BINARY")) })
)

func must[T any](t *testing.T, get func() (T, error)) T {
	t.Helper()
	value, err := get()
	if err != nil {
		t.Fatalf("with KILN_TOP the top of the tree and KILN_BINARY the program: %s", err)
	}
	return value
}

// A Copy of a rendering, to plant a mistake in.
type Copy struct {
	t         *testing.T
	documents []map[string]any
	text      []byte // in place of the documents, where a mistake is one of spelling
	adapter   []AdapterFile
	overlay   string
}

// Rendering once is enough as well; what is planted is planted in what was read from the text.
var rendered = map[string]Manifests{}

func renderFor(t *testing.T, on string) Manifests {
	t.Helper()
	tree := must(t, theTree)
	for _, combination := range tree.Combinations() {
		if combination.String() != on {
			continue
		}
		manifests, findings := tree.Manifests(combination)
		if len(findings) > 0 {
			t.Fatal(findings)
		}
		return manifests
	}
	t.Fatalf("there is no %s", on)
	return Manifests{}
}

// copyOf copies what a combination renders to, minikube alone where none is named.
func copyOf(t *testing.T, on string) *Copy {
	t.Helper()
	if on == "" {
		on = "minikube"
	}
	manifests, known := rendered[on]
	if !known {
		manifests = renderFor(t, on)
		rendered[on] = manifests
	}
	copied := &Copy{t: t, adapter: manifests.Adapter, overlay: manifests.Overlay}
	for _, text := range bytes.Split(manifests.Text, []byte("\n---\n")) {
		var document map[string]any
		if err := yaml.Unmarshal(text, &document); err != nil {
			t.Fatal(err)
		}
		copied.documents = append(copied.documents, document)
	}
	return copied
}

// Text is the copy as YAML.
func (copied *Copy) Text() []byte {
	if copied.text != nil {
		return copied.text
	}
	var texts [][]byte
	for _, document := range copied.documents {
		text, err := yaml.Marshal(document)
		if err != nil {
			copied.t.Fatal(err)
		}
		texts = append(texts, text)
	}
	return bytes.Join(texts, []byte("---\n"))
}

// Findings are those of the copy.
func (copied *Copy) Findings() []Finding {
	manifests, findings := ReadManifests(copied.Text())
	manifests.Adapter, manifests.Overlay = copied.adapter, copied.overlay
	return append(findings, manifests.Check(must(copied.t, theWorld))...)
}

// Object gives the document "Kind/name".
func (copied *Copy) Object(title string) map[string]any {
	copied.t.Helper()
	for _, document := range copied.documents {
		if textAt(document, "kind")+"/"+textAt(document, "metadata", "name") == title {
			return document
		}
	}
	copied.t.Fatalf("no %s", title)
	return nil
}

// Set puts a value where the path leads: names of fields, or names or numbers of a list's items, separated by "/"; "~1"
// is one inside a name, as in JSON Pointer. All but the last must exist, so that a mistake is still one when the
// manifests have moved on. Nil removes.
func (copied *Copy) Set(title, path string, value any) {
	copied.t.Helper()
	names := splitPath(path)
	var here any = copied.Object(title)
	for _, name := range names[:len(names)-1] {
		here = step(here, name)
		if here == nil {
			copied.t.Fatalf("%s has no %s in %s", title, name, path)
		}
	}
	last := names[len(names)-1]
	switch holder := here.(type) {
	case map[string]any:
		if _, exists := holder[last]; !exists && value == nil {
			copied.t.Fatalf("%s has no %s to remove", title, path)
		}
		if value == nil {
			delete(holder, last)
		} else {
			holder[last] = value
		}
	default:
		copied.t.Fatalf("%s: %s leads to no fields", title, path)
	}
}

// Append adds an item to the list where the path leads, which need not exist yet.
func (copied *Copy) Append(title, path string, item any) {
	copied.t.Helper()
	var here any = copied.Object(title)
	for _, name := range splitPath(path) {
		here = step(here, name)
	}
	items, _ := here.([]any)
	copied.Set(title, path, append(items, item))
}

func splitPath(path string) []string {
	names := strings.Split(path, "/")
	for i := range names {
		names[i] = strings.ReplaceAll(names[i], "~1", "/")
	}
	return names
}

func step(value any, name string) any {
	switch holder := value.(type) {
	case map[string]any:
		return holder[name]
	case []any:
		for i, item := range holder {
			if label(item, i) == name || fmt.Sprint(i) == name {
				return item
			}
		}
	}
	return nil
}

// pathsBelow lists, for Set, every field in what was decoded.
func pathsBelow(value any, path string) []string {
	var paths []string
	switch holder := value.(type) {
	case map[string]any:
		for name, item := range holder {
			below := path + strings.ReplaceAll(name, "/", "~1")
			paths = append(append(paths, below), pathsBelow(item, below+"/")...)
		}
	case []any:
		for i, item := range holder {
			paths = append(paths, pathsBelow(item, fmt.Sprintf("%s%d/", path, i))...)
		}
	}
	return paths
}

// Add puts one more object there.
func (copied *Copy) Add(text string) {
	copied.t.Helper()
	var document map[string]any
	if err := yaml.Unmarshal([]byte(text), &document); err != nil {
		copied.t.Fatal(err)
	}
	copied.documents = append(copied.documents, document)
}

// Spell replaces a piece of the text, which must be there.
func (copied *Copy) Spell(old, new string) {
	copied.t.Helper()
	text := copied.Text()
	if !bytes.Contains(text, []byte(old)) {
		copied.t.Fatalf("nothing spells %q", old)
	}
	copied.text = bytes.Replace(text, []byte(old), []byte(new), 1)
}
