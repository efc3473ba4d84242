package contract

import (
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Check returns all violations of the contract rules in the files, ordered by position. It returns nil when there are
// none. Pass all files of a proto package together, because some rules are about a package. Imported files are read but
// not checked. Positions are as exact as the source info of the files.
func Check(files ...protoreflect.FileDescriptor) []Violation {
	c := checker{
		names:    make(map[protoreflect.FullName]map[string]protoreflect.Descriptor),
		requests: make(map[protoreflect.FullName]bool),
	}
	for _, file := range files {
		if annotated(file) {
			c.services(file)
		}
	}
	for _, file := range files {
		if annotated(file) {
			c.understoodFile(file)
			c.messages(file.Package(), file.Messages())
			c.unused(file.Package(), file.Extensions())
		}
	}
	return c.sorted()
}

// checker checks a set of files.
type checker struct {
	report

	// names holds the generated Go names of each proto package, with the descriptors that they are generated from.
	names map[protoreflect.FullName]map[string]protoreflect.Descriptor

	// requests are the request types of sagas in their own package.
	requests map[protoreflect.FullName]bool
}

func (c *checker) services(file protoreflect.FileDescriptor) {
	for i := range file.Services().Len() {
		c.service(file.Services().Get(i))
	}
}

func (c *checker) service(service protoreflect.ServiceDescriptor) {
	var sagas, others []protoreflect.MethodDescriptor
	for m := range methodsOf(service) {
		options, ok := c.methodOptions(m)
		if !ok {
			continue
		}
		c.method(m, options)
		if options.saga != nil {
			sagas = append(sagas, m)
		} else {
			others = append(others, m)
		}
	}
	if len(sagas) == 0 {
		return
	}
	for _, m := range others {
		if compensatesAny(service, m, sagas) {
			continue
		}
		c.add(sagaServiceMixed, at(m),
			"%s is not a saga, but %s.%s is: write `option (treaty.v1.saga) = {};` or move it to another service",
			m.Name(), service.Name(), sagas[0].Name())
	}
	c.name(service, goName(service.Name()))
	c.name(service, "Register"+goName(service.Name()))
}

// compensatesAny reports whether a method is the compensation of one of the sagas.
func compensatesAny(
	service protoreflect.ServiceDescriptor, m protoreflect.MethodDescriptor, sagas []protoreflect.MethodDescriptor,
) bool {
	for action := range actionsOf(service, m.Name()) {
		if slices.Contains(sagas, action) {
			return true
		}
	}
	return false
}

func (c *checker) method(m protoreflect.MethodDescriptor, options methodOptions) {
	if options.command != nil {
		c.command(m, options.command)
		c.name(m, goName(m.Name()))
	}
	if options.saga != nil {
		c.saga(m, options.saga)
		if input := m.Input(); input.ParentFile().Package() == m.ParentFile().Package() {
			c.requests[input.FullName()] = true
		}
	}
	if options.compensation == nil {
		return
	}
	where := atOption(m, treatyv1.E_Compensation)
	named := false
	if service, ok := m.Parent().(protoreflect.ServiceDescriptor); ok {
		for range actionsOf(service, m.Name()) {
			named = true
		}
	}
	switch {
	case named: // read and checked with its action
	case options.command != nil:
		c.add(compensationIsCommand, where,
			"%s is a command, so it can't be a compensation: remove (treaty.v1.compensation) or (treaty.v1.command)",
			m.Name())
	case options.saga != nil:
		c.add(compensationIsSaga, where,
			"%s is a saga, so it can't be a compensation: remove (treaty.v1.compensation) or (treaty.v1.saga)",
			m.Name())
	default:
		c.add(compensationUnused, where,
			"no command of %s is compensated by %s: write `compensated_by: %q` in that command, or remove the option",
			m.Parent().Name(), m.Name(), m.Name())
	}
}

// name reserves a Go name that is generated from d, and reports a clash within the proto package.
func (c *checker) name(d protoreflect.Descriptor, name string) {
	pkg := d.ParentFile().Package()
	if c.names[pkg] == nil {
		c.names[pkg] = make(map[string]protoreflect.Descriptor)
	}
	other, taken := c.names[pkg][name]
	if !taken {
		c.names[pkg][name] = d
		return
	}
	c.add(commandNameClash, at(d), "%s and %s both generate the Go name %s: rename one or move it to another package",
		other.FullName(), d.FullName(), name)
}

// messages reports annotations without effect, in messages and in messages nested in them.
func (c *checker) messages(pkg protoreflect.FullName, messages protoreflect.MessageDescriptors) {
	for i := range messages.Len() {
		message := messages.Get(i)
		if !c.requests[message.FullName()] {
			c.unused(pkg, message.Fields())
		}
		c.unused(pkg, message.Extensions())
		c.unkeyed(message.Extensions())
		if event := c.event(message); event != nil {
			name := goName(nestedName(message))
			c.name(message, "Await"+name)
			c.name(message, "Next"+name)
		} else {
			c.unkeyed(message.Fields())
		}
		c.messages(pkg, message.Messages())
	}
}

// unkeyed reports correlation keys on messages that aren't events.
func (c *checker) unkeyed(fields fields) {
	for i := range fields.Len() {
		field := fields.Get(i)
		if options, ok := c.fieldOptions(field); ok && options.correlationKey {
			c.add(eventKeyUnused, atFieldOption(field, treatyv1.E_CorrelationKey),
				"%s is not an event, so (%s) has no effect: remove it, or write `option (treaty.v1.event) = {};` in %s",
				field.Parent().Name(), treatyv1.E_CorrelationKey.TypeDescriptor().FullName(), field.Parent().Name())
		}
	}
}

// fields is the common part of FieldDescriptors and ExtensionDescriptors.
type fields interface {
	Len() int
	Get(i int) protoreflect.FieldDescriptor
}

func (c *checker) unused(pkg protoreflect.FullName, fields fields) {
	for i := range fields.Len() {
		field := fields.Get(i)
		options, ok := c.fieldOptions(field)
		if !ok {
			continue
		}
		const message = "no saga of %s has the request type %s, so (%s) has no effect: " +
			"remove it or move it to a field of a saga's request"
		if options.requestID {
			c.add(fieldAnnotationUnused, atFieldOption(field, treatyv1.E_RequestId), message,
				pkg, field.Parent().Name(), treatyv1.E_RequestId.TypeDescriptor().FullName())
		}
		if options.label {
			c.add(fieldAnnotationUnused, atFieldOption(field, treatyv1.E_Label), message,
				pkg, field.Parent().Name(), treatyv1.E_Label.TypeDescriptor().FullName())
		}
	}
}

// nestedName returns a message's name with the names of the messages around it, e.g. "Card.Issued".
func nestedName(message protoreflect.MessageDescriptor) protoreflect.Name {
	name := message.Name()
	for {
		outer, nested := message.Parent().(protoreflect.MessageDescriptor)
		if !nested {
			return name
		}
		message, name = outer, outer.Name()+"."+name
	}
}

// goName returns the Go name that protoc-gen-go gives to a name.
func goName(name protoreflect.Name) string {
	isLower := func(i int) bool { return i < len(name) && 'a' <= name[i] && name[i] <= 'z' }
	var out []byte
	upper := true // a word starts here
	for i := range len(name) {
		c := name[i]
		switch {
		case c == '_' && (i == 0 || name[i-1] == '.'):
			c = 'X'
		case (c == '_' || c == '.') && isLower(i+1):
			upper = true
			continue
		case c == '.':
			c = '_'
		case upper && isLower(i):
			c -= 'a' - 'A'
		}
		out = append(out, c)
		upper = c == '_' || '0' <= c && c <= '9' || c == 'X' && name[i] == '_'
	}
	return string(out)
}
