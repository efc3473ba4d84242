// Package dev runs the processes of a system on a developer's machine: it starts them, restarts what changed, and stops
// them all.
package dev

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Config is a file such as treaty.dev.yaml.
type Config struct {
	// Orchestrator is the address of the orchestrator's API. Empty: no timelines are printed.
	Orchestrator string `yaml:"orchestrator"`

	// Processes are started together. Each has its own name.
	Processes []Process `yaml:"processes"`
}

// Process is one process of a Config. Its paths are relative to the file's folder.
type Process struct {
	// Name stands before each line of the process's output.
	Name string `yaml:"name"`

	// Command is the program and its arguments.
	Command Command `yaml:"command"`

	// Build runs before each start. Empty: nothing is built.
	Build Command `yaml:"build"`

	// Dir is the folder in which both run. Default: the file's folder.
	Dir string `yaml:"dir"`

	// Env is added to the environment of both.
	Env map[string]string `yaml:"env"`

	// Watch are the files and folders whose change restarts the process. Default: each argument of Build and Command
	// that begins with ./ and is a folder.
	Watch []string `yaml:"watch"`

	// Ready is the host:port that accepts connections once the process is ready. Default: it is ready at once.
	Ready string `yaml:"ready"`

	// Stores are the files that a wipe deletes, with their -wal, -shm and -lock companions.
	Stores []string `yaml:"stores"`
}

// Command is a program and its arguments. A file has it as a list, or as a text without quotes that is split at spaces.
type Command []string

// shell are the characters that only a shell understands.
const shell = "\"'`$|&;<>()*?\\~"

// UnmarshalYAML reads a list or a text.
func (c *Command) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind != yaml.ScalarNode {
		var list []string
		if err := node.Decode(&list); err != nil {
			return err
		}
		*c = list
	} else {
		if strings.ContainsAny(node.Value, shell) {
			return fmt.Errorf("line %d: %q needs a shell or quotes: write a list, such as [sh, -c, \"a && b\"]",
				node.Line, node.Value)
		}
		*c = strings.Fields(node.Value)
	}
	if len(*c) == 0 || (*c)[0] == "" {
		return fmt.Errorf("line %d: want a program and its arguments", node.Line)
	}
	return nil
}

// Parse reads a file's content. The name is only for errors, which begin with it and have the line.
func Parse(name string, data []byte) (*Config, error) {
	var (
		config Config
		places struct {
			Orchestrator yaml.Node   `yaml:"orchestrator"`
			Processes    []yaml.Node `yaml:"processes"`
		}
		more yaml.Node
	)
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(&config); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %s", name, plain(err))
	}
	if decoder.Decode(&more) == nil {
		return nil, fmt.Errorf("%s: line %d: a second document: keep one", name, more.Line)
	}
	if len(config.Processes) == 0 {
		return nil, fmt.Errorf("%s has no processes: list at least one, with a name and a command", name)
	}
	if err := yaml.Unmarshal(data, &places); err != nil {
		return nil, fmt.Errorf("%s: %s", name, plain(err))
	}
	if !isAddress(config.Orchestrator) {
		return nil, fmt.Errorf("%s: line %d: orchestrator %q isn't HOST:PORT or unix:PATH", name,
			places.Orchestrator.Line, config.Orchestrator)
	}
	lines := make(map[string]int)
	addresses := make(map[string]string)
	for i, p := range config.Processes {
		line := places.Processes[i].Line
		wrong := func(format string, args ...any) error {
			return fmt.Errorf("%s: line %d: %w", name, line, fmt.Errorf(format, args...))
		}
		switch first, twice := lines[p.Name]; {
		case p.Name == "" || strings.ContainsAny(p.Name, " \t\n"):
			return nil, wrong("a process needs a name without spaces, not %q", p.Name)
		case p.Name == self:
			return nil, wrong("%q is the name before this program's own lines: choose another", self)
		case twice:
			return nil, wrong("two processes are named %q, the first in line %d: rename one", p.Name, first)
		case len(p.Command) == 0:
			return nil, wrong("the process %q has no command", p.Name)
		}
		lines[p.Name] = line
		if p.Ready == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(p.Ready); err != nil {
			return nil, wrong("ready of %q isn't a host:port: %w", p.Name, err)
		}
		if other, taken := addresses[p.Ready]; taken {
			return nil, wrong("ready of %q is %s, which is that of %q: each process listens on its own port", p.Name,
				p.Ready, other)
		}
		addresses[p.Ready] = p.Name
	}
	return &config, nil
}

// isAddress reports whether a text is nothing or an address of an orchestrator.
func isAddress(text string) bool {
	_, _, err := net.SplitHostPort(text)
	return err == nil || text == "" || strings.HasPrefix(text, "unix:")
}

// mistyped matches what the YAML library says of a value that is of another kind.
var mistyped = regexp.MustCompile("cannot unmarshal !!(\\w+)(?: `([^`]*)`)? into (\\S+)")

// plain removes Go's types from an error of the YAML library.
func plain(err error) string {
	text := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "yaml: "), "unmarshal errors:\n  ")
	if !strings.HasPrefix(text, "line ") { // the library leaves out the first line's number
		text = "line 1: " + text
	}
	text = strings.ReplaceAll(text, "\n  ", "; ")
	text = mistyped.ReplaceAllStringFunc(text, func(found string) string {
		parts := mistyped.FindStringSubmatch(found)
		want, got := "keys and values", "the text "+parts[2]
		switch {
		case parts[3] == "string":
			want = "a text"
		case strings.HasPrefix(parts[3], "[]"):
			want = "a list"
		}
		switch parts[1] {
		case "seq":
			got = "a list"
		case "map":
			got = "keys and values"
		}
		return "want " + want + ", not " + got
	})
	text = strings.ReplaceAll(text, "field ", "the key ")
	for _, kind := range []string{"dev.Config", "dev.Process"} {
		text = strings.ReplaceAll(text, " not found in type "+kind, " is unknown; see treaty dev --help")
	}
	return text
}

// Read reads a file and makes its paths absolute.
func Read(file string) (*Config, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the processes: %w", err)
	}
	config, err := Parse(file, data)
	if err != nil {
		return nil, err
	}
	base, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return nil, fmt.Errorf("finding the folder of %s: %w", file, err)
	}
	for i := range config.Processes {
		p := &config.Processes[i]
		p.Dir = absolute(base, p.Dir)
		if p.Watch == nil {
			for _, arg := range append(append([]string(nil), p.Build...), p.Command...) {
				info, err := os.Stat(absolute(p.Dir, arg))
				if strings.HasPrefix(arg, "./") && err == nil && info.IsDir() {
					p.Watch = append(p.Watch, absolute(p.Dir, arg))
				}
			}
		}
		for j := range p.Watch {
			p.Watch[j] = absolute(base, p.Watch[j])
		}
		for j := range p.Stores {
			p.Stores[j] = absolute(base, p.Stores[j])
		}
	}
	return config, nil
}

func absolute(base, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(base, path)
}
