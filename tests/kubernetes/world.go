package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// The World is what manifests are compared with: the project, and the program.
type World struct {
	Version string // of the project
	Kiln    *Kiln
}

func Look(top, binary string) (*World, error) {
	lists, err := os.ReadFile(filepath.Join(top, "CMakeLists.txt"))
	if err != nil {
		return nil, err
	}
	version := regexp.MustCompile(`project\(kiln VERSION ([0-9.]+)`).FindSubmatch(lists)
	if version == nil {
		return nil, errors.New("CMakeLists.txt names no version")
	}
	kiln, err := AskKiln(binary)
	if err != nil {
		return nil, fmt.Errorf("kiln: %w", err)
	}
	dockerfile, err := os.ReadFile(filepath.Join(top, "Dockerfile"))
	for _, line := range regexp.MustCompile(`(?m)^ENV (\S+=\S+)$`).FindAllSubmatch(dockerfile, -1) {
		kiln.image = append(kiln.image, string(line[1]))
	}
	return &World{Version: string(version[1]), Kiln: kiln}, err
}

// Kiln is the program, and what it told.
type Kiln struct {
	binary   string
	image    []string                   // environment that its image sets
	configs  map[string]Config          // what it made of settings before
	Identity []string                   // variables that its /api/info shows
	Metrics  map[string]map[string]bool // by name, the labels
}

// Only told where a control group limits CPU, which need not be so where the tests run.
var withControlGroup = []string{
	"kiln_cgroup_cpu_seconds_total", "kiln_cgroup_throttled_periods_total", "kiln_cgroup_throttled_seconds_total",
}

// AskKiln starts the program once, lets every metric happen, and stops it.
func AskKiln(binary string) (*Kiln, error) {
	kiln := &Kiln{binary: binary, Metrics: map[string]map[string]bool{}, configs: map[string]Config{}}
	var environment []string
	for name, identity := range identities {
		environment = append(environment, name+"="+identity.told)
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	server := exec.CommandContext(ctx, binary, "serve", "--address=127.0.0.1", "--port=0", "--data-uri=memory:")
	server.Env, server.Stderr = environment, os.Stderr
	server.Cancel = func() error { return server.Process.Signal(os.Interrupt) }
	server.WaitDelay = 10 * time.Second
	output, err := server.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := server.Start(); err != nil {
		return nil, err
	}
	defer func() {
		stop()
		_, _ = io.Copy(io.Discard, output)
		_ = server.Wait()
	}()
	line, err := bufio.NewReader(output).ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	var started struct{ Port int }
	if err := json.Unmarshal(line, &started); err != nil || started.Port == 0 {
		return nil, fmt.Errorf("its first line names no port: %s", line)
	}
	url := fmt.Sprintf("http://127.0.0.1:%d", started.Port)
	if err := kiln.askIdentity(url); err != nil {
		return nil, err
	}
	return kiln, kiln.askMetrics(url)
}

func (kiln *Kiln) askIdentity(url string) error {
	info, err := fetch(http.Get(url + "/api/info"))
	for name, identity := range identities {
		if bytes.Contains(info, []byte(identity.told)) {
			kiln.Identity = append(kiln.Identity, name)
		}
	}
	slices.Sort(kiln.Identity)
	return err
}

func (kiln *Kiln) askMetrics(url string) error {
	if _, err := fetch(http.Get(url + "/load?ms=1")); err != nil {
		return err
	}
	if _, err := fetch(http.Post(url+"/data", "application/json", strings.NewReader("{}"))); err != nil {
		return err
	}
	text, err := fetch(http.Get(url + "/metrics"))
	if err != nil {
		return err
	}
	sample := regexp.MustCompile(`(?m)^([a-z0-9_]+)(?:\{(.*)\})? `)
	labelName := regexp.MustCompile(`([a-z_]+)="`)
	for _, found := range sample.FindAllSubmatch(text, -1) {
		labels := kiln.Metrics[string(found[1])]
		if labels == nil {
			labels = map[string]bool{}
			kiln.Metrics[string(found[1])] = labels
		}
		for _, name := range labelName.FindAllSubmatch(found[2], -1) {
			labels[string(name[1])] = true
		}
	}
	program, err := os.ReadFile(kiln.binary)
	for _, name := range withControlGroup {
		if _, told := kiln.Metrics[name]; !told && bytes.Contains(program, []byte(name)) {
			kiln.Metrics[name] = nil
		}
	}
	return err
}

func fetch(response *http.Response, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode >= 300 {
		return nil, fmt.Errorf("%s: %s", response.Request.URL, response.Status)
	}
	return io.ReadAll(response.Body)
}

// A Config is what `kiln serve --print-config` prints: flag, value and where it comes from.
type Config []string

// Config asks what the program makes of a container's arguments and environment. What comes from elsewhere, such as a
// Secret, gets a stand-in.
func (kiln *Kiln) Config(container corev1.Container) (Config, error) {
	arguments := container.Args
	if len(arguments) == 0 {
		arguments = []string{"serve"}
	}
	environment := slices.Clone(kiln.image)
	for _, variable := range container.Env {
		value := variable.Value
		if variable.ValueFrom != nil {
			value = "1"
		}
		environment = append(environment, variable.Name+"="+value)
	}
	asked := strings.Join(slices.Concat(arguments, environment), "\n")
	if config, known := kiln.configs[asked]; known {
		return config, nil
	}
	command := exec.Command(kiln.binary, append(slices.Clone(arguments), "--print-config")...)
	command.Env = environment
	var complaint strings.Builder
	command.Stderr = &complaint
	output, err := command.Output()
	if err != nil {
		return nil, errors.New(strings.TrimSpace(complaint.String()))
	}
	config := Config(strings.Split(string(output), "\n"))
	kiln.configs[asked] = config
	return config, nil
}

// Reads says whether a setting has its value from this variable.
func (config Config) Reads(variable string) bool {
	return slices.ContainsFunc(config, func(line string) bool {
		return strings.HasSuffix(line, " environment "+variable)
	})
}

func (config Config) Value(flag string) string {
	for _, line := range config {
		if words := strings.Fields(line); len(words) > 1 && words[0] == flag {
			return words[1]
		}
	}
	return ""
}

// Knows says whether the program has a metric; nothing is said of labels where none was seen.
func (kiln *Kiln) Knows(metric string) (labels map[string]bool, known bool) {
	labels, known = kiln.Metrics[metric]
	return labels, known
}
