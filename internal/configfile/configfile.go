// Package configfile reads a configuration file in YAML and keeps where each value stands, so that whoever finds
// something wrong with a value can say where.
//
// Only what a configuration needs is understood: mappings, lists and plain values. Anchors, aliases, tags and several
// documents are refused.
package configfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// MaxBytes is how large a file may be.
const MaxBytes = 1 << 20

// Value is a value of the file: a plain one, a list or a mapping.
type Value struct {
	// Kind says which of the fields is set.
	Kind Kind

	// Text is a plain value as it was written, without quotes. An empty value has an empty text.
	Text string

	// Items are the values of a list.
	Items []Value

	// Entries are the entries of a mapping, in the order of the file.
	Entries []Entry

	at place
}

// Kind is the kind of a Value.
type Kind int

// The kinds.
const (
	// Plain is a text, number or boolean.
	Plain Kind = iota

	// List is a list of values.
	List

	// Mapping has entries.
	Mapping
)

// Entry is a key of a mapping with its value. No mapping has the same key twice.
type Entry struct {
	Key   string
	Value Value

	at place
}

// place is a place in a file.
type place struct {
	file         string
	line, column int
}

// Errorf returns an error about the value that begins with its place, as file:line:column.
func (v *Value) Errorf(format string, args ...any) error { return v.at.errorf(format, args...) }

// Errorf returns an error about the key that begins with its place, as file:line:column.
func (e *Entry) Errorf(format string, args ...any) error { return e.at.errorf(format, args...) }

func (p place) errorf(format string, args ...any) error {
	return fmt.Errorf("%s:%d:%d: %w", p.file, p.line, p.column, fmt.Errorf(format, args...))
}

// Parse returns the top mapping of a file. The name is only for errors. An empty file is an empty mapping.
func Parse(name string, data []byte) (*Value, error) {
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("%s has %d bytes; a configuration has at most %d", name, len(data), MaxBytes)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, second yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return &Value{Kind: Mapping, at: place{name, 1, 1}}, nil
	case err != nil:
		return nil, syntaxError(name, err)
	}
	top, err := valueOf(name, document.Content[0])
	if err != nil {
		return nil, err
	}
	switch err := decoder.Decode(&second); {
	case err == nil:
		return nil, at(name, second.Content[0]).errorf("a second document: keep one, without lines of three dashes")
	case !errors.Is(err, io.EOF):
		return nil, syntaxError(name, err)
	case top.Kind != Mapping:
		return nil, top.Errorf("want lines such as %q", "key: value")
	}
	return &top, nil
}

// inLine is how the parser's errors begin that know their line.
var inLine = regexp.MustCompile(`^yaml: line (\d+): (?s:(.*))$`)

// syntaxError puts the line in front of the parser's error.
func syntaxError(name string, err error) error {
	if found := inLine.FindStringSubmatch(err.Error()); found != nil {
		return fmt.Errorf("%s:%s: this isn't YAML: %s", name, found[1], found[2])
	}
	return fmt.Errorf("%s: this isn't YAML: %s", name, strings.TrimPrefix(err.Error(), "yaml: "))
}

func at(name string, node *yaml.Node) place { return place{name, node.Line, node.Column} }

func valueOf(name string, node *yaml.Node) (Value, error) {
	v := Value{at: at(name, node)}
	if node.Anchor != "" || node.Kind == yaml.AliasNode || node.Style&yaml.TaggedStyle != 0 {
		return Value{}, v.Errorf("write the value itself: a configuration has no anchors, aliases or tags")
	}
	switch node.Kind {
	case yaml.MappingNode:
		return mapping(name, v, node.Content)
	case yaml.SequenceNode:
		v.Kind = List
		for _, item := range node.Content {
			value, err := valueOf(name, item)
			if err != nil {
				return Value{}, err
			}
			v.Items = append(v.Items, value)
		}
	default:
		// As it was written: 0x10 and 1_000 mean what the setting says they mean.
		v.Text = node.Value
	}
	return v, nil
}

func mapping(name string, v Value, keysAndValues []*yaml.Node) (Value, error) {
	v.Kind = Mapping
	lines := make(map[string]int)
	for i := 0; i+1 < len(keysAndValues); i += 2 {
		key := keysAndValues[i]
		if key.Kind != yaml.ScalarNode || key.Anchor != "" || key.Tag == "!!merge" {
			return Value{}, at(name, key).errorf("want a plain key")
		}
		if line, twice := lines[key.Value]; twice {
			return Value{}, at(name, key).errorf("%s is here twice, first in line %d: keep one", key.Value, line)
		}
		lines[key.Value] = key.Line
		value, err := valueOf(name, keysAndValues[i+1])
		if err != nil {
			return Value{}, err
		}
		v.Entries = append(v.Entries, Entry{Key: key.Value, Value: value, at: at(name, key)})
	}
	return v, nil
}
