package contract

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Position is a position in a .proto file.
type Position struct {
	// Path is the file's import path.
	Path string

	// Line and Column count from 1. Both are 0 if the descriptor has no source positions, as in a linked Go program.
	Line, Column int
}

// String returns "path:line:column", or the path alone if the line is unknown.
func (p Position) String() string {
	if p.Line == 0 {
		return p.Path
	}
	return fmt.Sprintf("%s:%d:%d", p.Path, p.Line, p.Column)
}

// Violation is a place where a contract breaks a rule. It is an error.
type Violation struct {
	// Rule is the id of the broken rule, e.g. "COMMAND_KIND_MISSING". Ids never change. docs/contract-reference.md
	// explains each.
	Rule string

	// Descriptor is the descriptor that breaks the rule: a method, a field, an event, the request message of a
	// compensation, or whatever has an option that this version doesn't know.
	Descriptor protoreflect.Descriptor

	// Position is its position, as exact as the descriptor's source info.
	Position Position

	// Source is the path of the position in the source info of its file. It is nil if the line is unknown.
	Source protoreflect.SourcePath

	// Message says what is wrong and what to write instead.
	Message string
}

// Error returns "path:line:column: message (RULE_ID)". If the line is unknown, the descriptor's full name precedes the
// message.
func (v Violation) Error() string {
	if v.Position.Line == 0 && v.Descriptor != nil {
		return fmt.Sprintf("%s: %s: %s (%s)", v.Position, v.Descriptor.FullName(), v.Message, v.Rule)
	}
	return fmt.Sprintf("%s: %s (%s)", v.Position, v.Message, v.Rule)
}

// site is the place of a violation: a descriptor, or an element below it.
type site struct {
	desc protoreflect.Descriptor
	path []int32 // below the descriptor, as in SourceCodeInfo
}

// The numbers of the options in google.protobuf.MethodDescriptorProto, FieldDescriptorProto and DescriptorProto.
const (
	methodOptionsField  = 4
	fieldOptionsField   = 8
	messageOptionsField = 7
)

func at(d protoreflect.Descriptor) site { return site{desc: d} }

// atOption returns the place of an option of a method, or of one of the option's fields.
func atOption(m protoreflect.MethodDescriptor, xt protoreflect.ExtensionType, fields ...int32) site {
	path := append([]int32{methodOptionsField, int32(xt.TypeDescriptor().Number())}, fields...)
	return site{desc: m, path: path}
}

// below returns the place of a field of the option at s.
func (s site) below(fields ...int32) site {
	return site{desc: s.desc, path: append(slices.Clone(s.path), fields...)}
}

func atFieldOption(f protoreflect.FieldDescriptor, xt protoreflect.ExtensionType) site {
	return site{desc: f, path: []int32{fieldOptionsField, int32(xt.TypeDescriptor().Number())}}
}

func atMessageOption(m protoreflect.MessageDescriptor, xt protoreflect.ExtensionType) site {
	return site{desc: m, path: []int32{messageOptionsField, int32(xt.TypeDescriptor().Number())}}
}

// position returns the most exact position in the file's source info. Compilers differ in how deep they descend into
// options.
func (s site) position() (Position, protoreflect.SourcePath) {
	file := s.desc.ParentFile()
	if file == nil {
		return Position{}, nil
	}
	pos := Position{Path: file.Path()}
	locations := file.SourceLocations()
	loc := locations.ByDescriptor(s.desc)
	if loc.Path == nil && (s.desc != file || locations.Len() == 0) { // the path of a file is empty
		return pos, nil
	}
	for n := len(s.path); n > 0; n-- {
		if exact := locations.ByPath(slices.Concat(loc.Path, s.path[:n])); exact.Path != nil {
			loc = exact
			break
		}
	}
	pos.Line, pos.Column = loc.StartLine+1, loc.StartColumn+1
	return pos, loc.Path
}

// report collects violations. The zero value is empty.
type report struct {
	violations []Violation
}

func (r *report) add(broken rule, s site, format string, args ...any) {
	v := Violation{Rule: broken.id, Descriptor: s.desc, Message: fmt.Sprintf(format, args...)}
	v.Position, v.Source = s.position()
	// A compensation that several commands name is checked once for each.
	for _, w := range r.violations {
		if w.Rule == v.Rule && w.Descriptor.FullName() == v.Descriptor.FullName() && w.Position == v.Position &&
			w.Message == v.Message {
			return
		}
	}
	r.violations = append(r.violations, v)
}

// unreadable reports a descriptor whose options can't be read.
func (r *report) unreadable(d protoreflect.Descriptor) {
	r.add(optionUnreadable, at(d), "the options of %s can't be read: use the treaty/v1/options.proto of this version",
		d.Name())
}

// sorted returns the violations ordered by position.
func (r *report) sorted() []Violation {
	slices.SortStableFunc(r.violations, func(a, b Violation) int {
		return cmp.Or(
			cmp.Compare(a.Position.Path, b.Position.Path),
			cmp.Compare(a.Position.Line, b.Position.Line),
			cmp.Compare(a.Position.Column, b.Position.Column),
		)
	})
	return r.violations
}

// err returns all violations as one error, or nil.
func (r *report) err() error {
	return joined(r.sorted())
}

func joined(violations []Violation) error {
	errs := make([]error, len(violations))
	for i, v := range violations {
		errs[i] = v
	}
	return errors.Join(errs...)
}
