package conformance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// File says how to check a participant.
type File struct {
	// Address is the participant's HOST:PORT or unix:PATH. The command line wins.
	Address string `yaml:"address"`

	// Restart ends the participant and starts it again. It returns once the new process runs. Empty: what needs a
	// restart is skipped.
	Restart Program `yaml:"restart"`

	// Commands are those to check.
	Commands []Command `yaml:"commands"`

	// Except are the names of commands that are served and not checked.
	Except []string `yaml:"except"`

	// dir is the file's folder, in which its programs run, and values replace ${name} in its texts.
	dir    string
	values map[string]string
}

// Command is one command of a File.
type Command struct {
	// Method is "package.Service/Method".
	Method string `yaml:"method"`

	// Request is the JSON form of a request that succeeds, and Refused of one that is refused. In their texts,
	// ${unique} becomes another text for each request, and ${NAME} a value of the command line.
	Request Message `yaml:"request"`
	Refused Message `yaml:"refused"`

	// Effects counts the effects that are there. Empty: the participant's own list counts.
	Effects Effects `yaml:"effects"`

	// Complete completes an accepted command, whose id replaces ${command_id}. Empty: the participant completes it by
	// itself.
	Complete Program `yaml:"complete"`
}

// Effects is a probe: a program that prints a number, or a call whose reply has it.
type Effects struct {
	Run Program `yaml:"run"`

	// Call is a method, and Request its request. Count is the field of the reply that has one element for each effect,
	// or that is their number.
	Call    string  `yaml:"call"`
	Request Message `yaml:"request"`
	Count   string  `yaml:"count"`
}

// Program is a program and its arguments.
type Program []string

// Message is the JSON form of a message, as YAML holds it. It is nil if there is none.
type Message map[string]any

// Read reads a file, whose texts have the values for ${name}. The error names the file and the line.
func Read(name string, values map[string]string) (*File, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	file, err := Parse(name, data)
	if err != nil {
		return nil, err
	}
	file.dir, file.values = filepath.Dir(name), values
	for _, c := range file.Commands {
		for _, m := range []Message{c.Request, c.Refused, c.Effects.Request} {
			if missing := unset(map[string]any(m), values); missing != "" {
				return nil, fmt.Errorf("%s: %s: ${%s} has no value: add --set %s=VALUE", name, c.Method, missing,
					missing)
			}
		}
	}
	return file, nil
}

// Parse reads a file's content. The name is only for errors.
func Parse(name string, data []byte) (*File, error) {
	file := new(File)
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(file); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %s", name, strings.ReplaceAll(strings.TrimPrefix(err.Error(), "yaml: "),
			"unmarshal errors:\n  ", ""))
	}
	var places struct {
		Commands []yaml.Node `yaml:"commands"`
	}
	if err := yaml.Unmarshal(data, &places); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(file.Commands) == 0 {
		return nil, fmt.Errorf("%s has no commands: list at least one, with a method and a request", name)
	}
	lines := make(map[string]int)
	for i, c := range file.Commands {
		line := places.Commands[i].Line
		if err := c.check(); err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", name, line, err)
		}
		if first, twice := lines[c.Method]; twice {
			return nil, fmt.Errorf("%s: line %d: %s was already listed in line %d: remove one", name, line, c.Method,
				first)
		}
		lines[c.Method] = line
	}
	return file, nil
}

func (c Command) check() error {
	switch e := c.Effects; {
	case !strings.Contains(c.Method, "/"):
		return fmt.Errorf("a command needs a method, such as acme.card.v1.CardService/IssueCard, not %q", c.Method)
	case c.Request == nil:
		return fmt.Errorf("%s needs a request that succeeds; {} is an empty one", c.Method)
	case len(e.Run) > 0 && e.Call != "":
		return fmt.Errorf("%s: effects has run and call: keep one", c.Method)
	case e.Call != "" && e.Count == "":
		return fmt.Errorf("%s: effects has a call and no count: name the field of the reply that counts", c.Method)
	case e.Call == "" && (e.Count != "" || e.Request != nil):
		return fmt.Errorf("%s: effects has no call", c.Method)
	}
	return nil
}

// json is the message with each text of the form ${name} replaced.
func (m Message) json(values map[string]string) ([]byte, error) {
	return json.Marshal(mapped(map[string]any(m), func(text string) string { return expand(text, values) }))
}

// mapped returns a copy of a value in which change was applied to each text.
func mapped(value any, change func(string) string) any {
	switch value := value.(type) {
	case string:
		return change(value)
	case []any:
		made := make([]any, len(value))
		for i, v := range value {
			made[i] = mapped(v, change)
		}
		return made
	case Message: // as a map in a Message is decoded
		return mapped(map[string]any(value), change)
	case map[string]any:
		made := make(map[string]any, len(value))
		for k, v := range value {
			made[k] = mapped(v, change)
		}
		return made
	default:
		return value
	}
}

var variable = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)

// unique is the name that has another value in each request.
const unique = "unique"

// unset returns the first name in a value's texts that has no value, or "".
func unset(value any, values map[string]string) (missing string) {
	mapped(value, func(text string) string {
		for _, match := range variable.FindAllStringSubmatch(text, -1) {
			if _, set := values[match[1]]; !set && match[1] != unique && missing == "" {
				missing = match[1]
			}
		}
		return text
	})
	return missing
}

// expand replaces each ${name} that has a value.
func expand(text string, values map[string]string) string {
	return variable.ReplaceAllStringFunc(text, func(match string) string {
		if value, set := values[match[2:len(match)-1]]; set {
			return value
		}
		return match
	})
}
