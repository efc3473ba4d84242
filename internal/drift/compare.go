package drift

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	// maxDifferences is how many differences are reported for one method.
	maxDifferences = 50

	// maxPairs is how many pairs of messages and enums are compared for one method. Contracts have far fewer; hostile
	// ones may have any number.
	maxPairs = 10_000
)

// Difference is a difference between what the orchestrator and a participant take a method to be.
type Difference struct {
	// Method is the method, e.g. "acme.card.v1.CardService/IssueCard".
	Method string

	// Breaking says that one side could act on something else than what the other one sent. Other differences are
	// harmless.
	Breaking bool

	// File is the path of the file with the orchestrator's definition of what differs.
	File string

	// Message is the full name of the message or enum, or empty if the difference is about the method.
	Message protoreflect.FullName

	// Field is the name of the field, oneof or enum value, or empty.
	Field protoreflect.Name

	// Text says what differs, e.g. "was int32, is sint32". What was is the orchestrator's, what is the participant's.
	Text string
}

// String returns the difference in one line: "acme.card.v1.CardIssued.card_id (acme/card/v1/card_service.proto): was
// string, is int64".
func (d Difference) String() string {
	subject := d.Method
	if d.Message != "" {
		subject = string(d.Message)
		if d.Field != "" {
			subject += "." + string(d.Field)
		}
	}
	return fmt.Sprintf("%s (%s): %s", subject, d.File, d.Text)
}

// Finder finds what the participant defines, by full names. protoregistry.Files is one.
type Finder interface {
	FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error)
}

// Compare compares a method of the orchestrator's, which is a command or a compensation, with the participant's. It
// returns at most 50 differences. The descriptors of the participant may be hostile.
//
// Whatever the orchestrator's contract has, the participant's must have, too, in both directions: a method, a field, an
// enum value, a rejection. What the participant has in addition is harmless. A value that one side may send must be
// read by the other side as the same value. So names of messages, fields, oneofs and enum values may differ, as long as
// no name has moved to another number; and a type may differ if the reader's has every value of the writer's in the
// same encoding, such as int64 for int32. Packing doesn't matter. Types of the package google.protobuf aren't compared.
//
// Annotations are compared if the participant's service has any, since some reflection servers drop them: the kind, the
// compensation, the rejections, and whether complete_within is set. Those that only the orchestrator acts on, such as
// timeouts, aren't.
func Compare(ours protoreflect.MethodDescriptor, theirs Finder) []Difference {
	c := &comparer{theirs: theirs, method: MethodName(ours), seen: make(map[pair]bool)}
	c.compare(ours)
	return c.found
}

// comparer compares one method.
type comparer struct {
	theirs Finder
	method string
	seen   map[pair]bool
	found  []Difference
}

// pair is a message or enum of each side, and who writes it.
type pair struct {
	ours, theirs protoreflect.FullName
	writer       writer
}

// writer is the side that sends a message.
type writer int

const (
	byOrchestrator writer = iota // requests
	byParticipant                // replies and rejections
)

// place is where something differs.
type place struct {
	file    string
	message protoreflect.FullName
	field   protoreflect.Name
}

func at(d protoreflect.Descriptor) place { return place{file: d.ParentFile().Path()} }

func in(d protoreflect.Descriptor, field protoreflect.Name) place {
	return place{file: d.ParentFile().Path(), message: d.FullName(), field: field}
}

func (c *comparer) breaks(p place, format string, args ...any) {
	c.add(p, true, fmt.Sprintf(format, args...))
}

func (c *comparer) note(p place, format string, args ...any) {
	c.add(p, false, fmt.Sprintf(format, args...))
}

// add adds a difference. Breaking ones are never left out: they replace harmless ones.
func (c *comparer) add(p place, breaking bool, text string) {
	d := Difference{
		Method: c.method, Breaking: breaking, File: p.file, Message: p.message, Field: p.field, Text: shorten(text),
	}
	if len(c.found) < maxDifferences {
		c.found = append(c.found, d)
		return
	}
	if i := slices.IndexFunc(c.found, func(d Difference) bool { return !d.Breaking }); breaking && i >= 0 {
		c.found[i] = d
	}
}

// maxText is the length of the text of a difference. Names of a hostile participant may be long.
const maxText = 400

func shorten(text string) string {
	if len(text) <= maxText {
		return text
	}
	return text[:maxText] + "..." // names are ASCII
}

func (c *comparer) compare(ours protoreflect.MethodDescriptor) {
	found, err := c.theirs.FindDescriptorByName(ours.Parent().FullName())
	service, is := found.(protoreflect.ServiceDescriptor)
	if err != nil || !is {
		c.breaks(at(ours), "the participant doesn't serve %s", ours.Parent().FullName())
		return
	}
	theirs := service.Methods().ByName(ours.Name())
	if theirs == nil {
		c.missing(ours, service)
		return
	}
	if theirs.IsStreamingClient() || theirs.IsStreamingServer() {
		c.breaks(at(ours), "was unary, streams")
		return
	}
	if isAnnotated(service) {
		c.annotations(ours, theirs)
	}
	c.message(ours.Input(), theirs.Input(), byOrchestrator)
	c.message(ours.Output(), theirs.Output(), byParticipant)
	c.rejections(ours, theirs)
}

// missing reports that a method is gone, and names one that it may have become: one that the orchestrator doesn't know,
// with the same messages.
func (c *comparer) missing(ours protoreflect.MethodDescriptor, service protoreflect.ServiceDescriptor) {
	known, _ := ours.Parent().(protoreflect.ServiceDescriptor)
	for i := range service.Methods().Len() {
		other := service.Methods().Get(i)
		if known.Methods().ByName(other.Name()) == nil && other.Input().FullName() == ours.Input().FullName() &&
			other.Output().FullName() == ours.Output().FullName() {
			c.breaks(at(ours), "the method was removed, or renamed to %s", other.Name())
			return
		}
	}
	c.breaks(at(ours), "the method was removed")
}

// isAnnotated returns whether any method of a service has the annotation of a command.
func isAnnotated(service protoreflect.ServiceDescriptor) bool {
	for i := range service.Methods().Len() {
		if CommandOf(service.Methods().Get(i)) != nil {
			return true
		}
	}
	return false
}

func (c *comparer) annotations(ours, theirs protoreflect.MethodDescriptor) {
	was, is := CommandOf(ours), CommandOf(theirs)
	if kind, now := KindOf(ours), KindOf(theirs); kind != now {
		c.breaks(at(ours), "kind: was %s, is %s", kind, now)
		return
	}
	if was.GetCompensatedBy() != is.GetCompensatedBy() {
		c.breaks(at(ours), "compensated_by: was %s, is %s", was.GetCompensatedBy(), is.GetCompensatedBy())
	}
	switch {
	case was.GetCompleteWithin() != nil && is.GetCompleteWithin() == nil:
		// A participant says of an OK that it is done, and not accepted, where its contract has complete_within.
		c.breaks(at(ours), "complete_within: was set, isn't")
	case was.GetCompleteWithin() == nil && is.GetCompleteWithin() != nil:
		c.note(at(ours), "complete_within: wasn't set, is")
	}
	if was.GetBroadcast() != is.GetBroadcast() {
		c.note(at(ours), "broadcast: was %t, is %t", was.GetBroadcast(), is.GetBroadcast())
	}
	declared := Rejections(theirs)
	for _, name := range Rejections(ours) {
		if !slices.Contains(declared, name) {
			c.breaks(at(ours), "the rejection %s is no longer declared", name)
		}
	}
	for _, name := range declared {
		if !slices.Contains(Rejections(ours), name) {
			c.note(at(ours), "the rejection %s is new", name)
		}
	}
}

// rejections compares the messages of the rejections that the orchestrator knows. They travel with their names, so one
// that isn't there any more was reported as one that isn't declared, or the participant never sends it.
func (c *comparer) rejections(ours, theirs protoreflect.MethodDescriptor) {
	for _, name := range Rejections(ours) {
		was := findMessage(ours.ParentFile(), name)
		found, err := c.theirs.FindDescriptorByName(name)
		is, isMessage := found.(protoreflect.MessageDescriptor)
		switch {
		case was == nil || err != nil && !slices.Contains(Rejections(theirs), name):
		case err != nil || !isMessage:
			c.note(at(ours), "the participant has no descriptor of the rejection %s", name)
		default:
			c.message(was, is, byParticipant)
		}
	}
}

// findMessage finds a message in a file and its direct and indirect imports, or returns nil.
func findMessage(file protoreflect.FileDescriptor, name protoreflect.FullName) protoreflect.MessageDescriptor {
	seen := make(map[string]bool)
	var find func(file protoreflect.FileDescriptor) protoreflect.MessageDescriptor
	find = func(file protoreflect.FileDescriptor) protoreflect.MessageDescriptor {
		if seen[file.Path()] || file.IsPlaceholder() {
			return nil
		}
		seen[file.Path()] = true
		if found := messageIn(file, name); found != nil {
			return found
		}
		for i := range file.Imports().Len() {
			if found := find(file.Imports().Get(i).FileDescriptor); found != nil {
				return found
			}
		}
		return nil
	}
	return find(file)
}

// messages is what has messages: a file or a message.
type messages interface {
	Messages() protoreflect.MessageDescriptors
}

func messageIn(scope messages, name protoreflect.FullName) protoreflect.MessageDescriptor {
	for i := range scope.Messages().Len() {
		message := scope.Messages().Get(i)
		if message.FullName() == name {
			return message
		}
		if found := messageIn(message, name); found != nil {
			return found
		}
	}
	return nil
}

// begin returns whether a pair is still to be compared.
func (c *comparer) begin(ours, theirs protoreflect.Descriptor, w writer) bool {
	p := pair{ours.FullName(), theirs.FullName(), w}
	switch {
	case c.seen[p], wellKnown(p.ours) && p.ours == p.theirs:
		return false
	case len(c.seen) == maxPairs:
		c.breaks(in(ours, ""), "the participant's types are too many to compare, more than %d", maxPairs)
	}
	c.seen[p] = true
	return len(c.seen) <= maxPairs
}

// wellKnown reports whether a message or enum is one of protobuf itself, which never changes.
func wellKnown(name protoreflect.FullName) bool { return name.Parent() == "google.protobuf" }
