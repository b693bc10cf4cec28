package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	names "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	corev1 "k8s.io/api/core/v1"
)

// What strict decoding does not see: fields that are missing, values that are none of a type's, and fields that the
// oldest Kubernetes we promise does not know. k8s.io/kubernetes has validation for all of it, but is not made to be
// imported; so the types themselves are walked. Rules between fields that matter here are checks of their own.
func checkSchema(manifests Manifests, _ *World, find Find) {
	for _, object := range manifests.Objects {
		walk(reflect.ValueOf(object.Typed), object.Fields, "", func(path, wanted string) {
			find(object.Title, "%s: %s", strings.TrimPrefix(path, "."), wanted)
		})
	}
}

// walk visits a value beside what was written for it. A field is required when its JSON tag lets it not be left out:
// that is how the published OpenAPI comes about, too.
func walk(value reflect.Value, written any, path string, find func(path, wanted string)) {
	for value.Kind() == reflect.Pointer {
		value = value.Elem()
	}
	if !value.IsValid() {
		return
	}
	if _, decodesItself := value.Addr().Interface().(json.Unmarshaler); decodesItself {
		return // quantities, times, a number or a text: decoding has checked them
	}
	switch value.Kind() {
	case reflect.Struct:
		fields, _ := written.(map[string]any)
		walkFields(value, fields, path, find)
	case reflect.Slice:
		items, _ := written.([]any)
		for i := range min(value.Len(), len(items)) {
			walk(value.Index(i), items[i], fmt.Sprintf("%s[%s]", path, label(items[i], i)), find)
		}
	case reflect.Map:
		fields, _ := written.(map[string]any)
		for _, key := range value.MapKeys() {
			item := reflect.New(value.Type().Elem()).Elem()
			item.Set(value.MapIndex(key))
			walk(item, fields[key.String()], path+"."+key.String(), find)
		}
	case reflect.String:
		walkText(value, path, find)
	}
}

func walkFields(value reflect.Value, written map[string]any, path string, find func(path, wanted string)) {
	for i := range value.NumField() {
		name, options, _ := strings.Cut(value.Type().Field(i).Tag.Get("json"), ",")
		switch {
		case name == "" && value.Type().Field(i).Anonymous:
			walkFields(value.Field(i), written, path, find)
			continue
		case name == "" || name == "-":
			continue
		}
		item, present := written[name]
		below := path + "." + name
		if version, is := newer[typeName(value.Type())+"."+name]; is && present {
			find(below, "came with Kubernetes "+version+", and 1.25 is promised")
		}
		if !present && !slices.Contains(strings.Split(options, ","), "omitempty") {
			find(below, "is required")
		}
		if present {
			walk(value.Field(i), item, below, find)
		}
	}
}

func walkText(value reflect.Value, path string, find func(path, wanted string)) {
	typ := value.Type()
	if typ == reflect.TypeFor[string]() || openTexts[typ] {
		return
	}
	allowed, known := enums[typ]
	switch {
	case !known:
		find(path, "of a type that tests/kubernetes/enums.go should list: "+typeName(typ))
	case !slices.Contains(allowed, value.String()):
		find(path, fmt.Sprintf("%q is none of %s", value.String(), strings.Join(allowed, ", ")))
	}
}

// typeName is short: v1.Container.
func typeName(typ reflect.Type) string { return typ.String() }

// label names an item of a list by its name where it has one.
func label(item any, index int) string {
	fields, _ := item.(map[string]any)
	if name, has := fields["name"].(string); has {
		return name
	}
	return fmt.Sprint(index)
}

// checkNames holds names and labels to what the API server takes, with the functions that it uses itself.
func checkNames(manifests Manifests, _ *World, find Find) {
	seen := map[string]bool{}
	for _, object := range manifests.Objects {
		valid, path := validation.NameIsDNSSubdomain, field.NewPath("metadata")
		if _, is := object.Typed.(*corev1.Service); is {
			valid = validation.NameIsDNS1035Label
		}
		// Being asked for none, it refuses a namespace as well: that is the user's to choose.
		for _, err := range validation.ValidateObjectMetaAccessor(object.Typed, false, valid, path) {
			find(object.Title, "%s", err)
		}
		if seen[object.Title] {
			find(object.Title, "is there twice")
		}
		seen[object.Title] = true
	}
	for _, workload := range Workloads(manifests) {
		for name, value := range workload.Template.Labels {
			for _, err := range slices.Concat(names.IsQualifiedName(name), names.IsValidLabelValue(value)) {
				find(workload.Title, "template label %s=%s: %s", name, value, err)
			}
		}
		for _, container := range workload.Containers() {
			checkContainerNames(workload, container, find)
		}
	}
	for title, service := range All[*corev1.Service](manifests) {
		for _, port := range service.Spec.Ports {
			for _, err := range slices.Concat(names.IsDNS1123Label(port.Name), names.IsValidPortNum(int(port.Port))) {
				find(title, "port %s: %s", port.Name, err)
			}
		}
	}
}

func checkContainerNames(workload Workload, container corev1.Container, find Find) {
	wrong := names.IsDNS1123Label(container.Name)
	for _, port := range container.Ports {
		wrong = append(wrong, names.IsValidPortNum(int(port.ContainerPort))...)
		if port.Name != "" {
			wrong = append(wrong, names.IsValidPortName(port.Name)...)
		}
	}
	for _, variable := range container.Env {
		wrong = append(wrong, names.IsEnvVarName(variable.Name)...)
	}
	for _, err := range wrong {
		find(workload.Title, "container %s: %s", container.Name, err)
	}
}

// picks says whether a selector picks labels. An empty one counts as none: whether it means all or nothing depends on
// where it stands, and all are also the pods of others.
func picks(selector *metav1.LabelSelector, labels map[string]string) bool {
	if selector == nil || len(selector.MatchLabels)+len(selector.MatchExpressions) == 0 {
		return false
	}
	chosen, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && chosen.Matches(labelSet(labels))
}

// portOf resolves a port that is given by name or by number among a container's; false when it is not there.
func portOf(port intstr.IntOrString, containers ...corev1.Container) (int32, bool) {
	for _, container := range containers {
		for _, candidate := range container.Ports {
			if port.Type == intstr.String && candidate.Name == port.StrVal {
				return candidate.ContainerPort, true
			}
			if port.Type == intstr.Int && candidate.ContainerPort == port.IntVal {
				return candidate.ContainerPort, true
			}
		}
	}
	return 0, false
}
