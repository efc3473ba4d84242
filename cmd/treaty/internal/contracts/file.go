package contracts

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/treatyhq/treaty/internal/drift"
)

// version is the version of the format. A program reads files of its own version and of earlier ones.
const version = 1

// end is the last line of a file. A file without it was cut off.
const end = "..."

// header are the first lines of a file.
const header = `# What sagas expect of their participants. "treaty contracts export" writes this file; don't edit it.
# "treaty conform --against FILE" checks a running participant.
`

// File is what sagas expect of their participants. It is read-only.
type File struct {
	// Version is the version of the format.
	Version int `yaml:"version"`

	// Services are the methods that sagas call, and their compensations, by the full name of the service and the name
	// of the method.
	Services map[protoreflect.FullName]map[protoreflect.Name]*Method `yaml:"services"`

	// Messages are the fields of the messages that can be reached from the methods, by the full name of the message and
	// the number of the field. The messages of the package google.protobuf are left out.
	Messages map[protoreflect.FullName]map[protoreflect.FieldNumber]drift.Field `yaml:"messages"`

	// Enums are the numbers of the values of the enums that can be reached from the methods, by the full name of the
	// enum and the name of the value.
	Enums map[protoreflect.FullName]map[protoreflect.Name]protoreflect.EnumNumber `yaml:"enums,omitempty"`
}

// Method is what sagas expect of a method.
type Method struct {
	// Request and Reply are the full names of its messages.
	Request protoreflect.FullName `yaml:"request"`
	Reply   protoreflect.FullName `yaml:"reply"`

	// Kind is compensatable, pivot, retriable or query for a command, and compensation for a compensation.
	Kind drift.Kind `yaml:"kind"`

	// CompensatedBy is the name of the method that compensates it, if it is compensatable.
	CompensatedBy protoreflect.Name `yaml:"compensated_by,omitempty"`

	// Handles are the declared rejections that the code of the sagas looks for, and Ignores the others.
	Handles []protoreflect.FullName `yaml:"handles,omitempty"`
	Ignores []protoreflect.FullName `yaml:"ignores,omitempty"`

	// Sagas are the saga definitions that call it, sorted.
	Sagas []string `yaml:"sagas"`
}

// Encode returns the file as YAML. The same expectations always give the same bytes.
func (f *File) Encode() ([]byte, error) {
	var out bytes.Buffer
	out.WriteString(header)
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := errors.Join(encoder.Encode(f), encoder.Close()); err != nil {
		return nil, fmt.Errorf("writing the expectations: %w", err)
	}
	out.WriteString(end + "\n")
	return out.Bytes(), nil
}

// Parse reads a file. The error says what is wrong with it and what to do.
func Parse(data []byte) (*File, error) {
	var format struct {
		Version int `yaml:"version"`
	}
	if err := yaml.Unmarshal(data, &format); err != nil {
		return nil, fmt.Errorf("it is damaged or was cut off: export it again: %s", yamlCause(err))
	}
	switch {
	case format.Version > version:
		return nil, fmt.Errorf("it has version %d of the format, and this program reads up to version %d: "+
			"use a newer treaty", format.Version, version)
	case format.Version < 1:
		return nil, errors.New("it has no version, so it isn't a file of expectations: " +
			"write one with treaty contracts export")
	}
	if !strings.HasSuffix(strings.TrimRight(string(data), " \t\r\n"), "\n"+end) {
		return nil, fmt.Errorf("its last line isn't %q, so it was cut off: export it again", end)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	file := new(File)
	if err := decoder.Decode(file); err != nil {
		return nil, fmt.Errorf("it is damaged: export it again: %s", yamlCause(err))
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("it has more than one YAML document: export it again")
	}
	if err := file.check(); err != nil {
		return nil, fmt.Errorf("it is damaged: export it again: %w", err)
	}
	return file, nil
}

// check returns what contradicts itself in the file. What is left can be compared.
func (f *File) check() error {
	if len(f.Services) == 0 {
		return errors.New("it has no services")
	}
	for _, service := range slices.Sorted(maps.Keys(f.Services)) {
		methods := f.Services[service]
		for _, name := range slices.Sorted(maps.Keys(methods)) {
			method, is := methods[name], string(service)+"/"+string(name)
			switch {
			case method == nil:
				return fmt.Errorf("%s has no content", is)
			case !method.Kind.Valid():
				return fmt.Errorf("%s has the unknown kind %q", is, method.Kind)
			case (method.Kind == drift.Compensatable) != (method.CompensatedBy != ""):
				return fmt.Errorf("%s is %s and has compensated_by: %q", is, method.Kind, method.CompensatedBy)
			case method.CompensatedBy != "" && methods[method.CompensatedBy] == nil:
				return fmt.Errorf("%s is compensated by %s, which is missing", is, method.CompensatedBy)
			}
			for _, message := range slices.Concat(
				[]protoreflect.FullName{method.Request, method.Reply}, method.Handles,
			) {
				if err := f.has(message, drift.MessageShape); err != nil {
					return fmt.Errorf("%s: %w", is, err)
				}
			}
		}
	}
	for _, message := range slices.Sorted(maps.Keys(f.Messages)) {
		for _, number := range slices.Sorted(maps.Keys(f.Messages[message])) {
			field := f.Messages[message][number]
			if err := f.has(field.Type, field.Shape); err != nil {
				return fmt.Errorf("field %d of %s: %w", number, message, err)
			}
		}
	}
	return nil
}

// has returns an error if the file lacks a message or enum.
func (f *File) has(name protoreflect.FullName, shape drift.Shape) error {
	found := true
	switch shape {
	case drift.MessageShape, drift.DelimitedShape:
		_, found = f.Messages[name]
	case drift.EnumShape:
		_, found = f.Enums[name]
	case drift.ScalarShape:
	}
	if !found && !wellKnown(name) {
		return fmt.Errorf("%q is missing", name)
	}
	return nil
}

// reach adds a message or enum, and all that can be reached from it.
func (f *File) reach(name protoreflect.FullName, to map[protoreflect.FullName]bool) {
	if to[name] {
		return
	}
	to[name] = true
	for _, field := range f.Messages[name] {
		if field.Shape != drift.ScalarShape {
			f.reach(field.Type, to)
		}
	}
}

// wellKnown reports whether a message or enum is one of protobuf itself, which never changes.
func wellKnown(name protoreflect.FullName) bool { return name.Parent() == "google.protobuf" }

// yamlCause returns the text of an error without the name of the library.
func yamlCause(err error) string {
	text := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "yaml: "), "unmarshal errors:\n  ")
	return strings.Join(strings.Fields(text), " ")
}
