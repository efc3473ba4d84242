package contract

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// Catalog holds the commands, compensations, saga definitions and events of a set of files. It is immutable and safe
// for concurrent use. Callers must not change what its methods return. The zero value is an empty catalog.
type Catalog struct {
	commands         map[string]*Command
	compensations    map[string]*Compensation
	sagas            map[string]*SagaDefinition
	compensatedSagas map[string]*SagaDefinition // by the methods of their compensations
	events           map[string]*EventType
	rejections       map[protoreflect.FullName]bool // of any command
}

// Load reads a set of files, usually protoregistry.GlobalFiles. If a contract breaks a rule, it returns an error that
// joins all violations; errors.As finds them as [Violation].
func Load(files *protoregistry.Files) (*Catalog, error) { return load(files, compiled) }

// load is Load. compiled returns a file as its compiler wrote it, or nil if that isn't known.
func load(
	files *protoregistry.Files, compiled func(protoreflect.FileDescriptor) protoreflect.FileDescriptor,
) (*Catalog, error) {
	var all []protoreflect.FileDescriptor
	files.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		all = append(all, file)
		return true
	})
	slices.SortFunc(all, func(a, b protoreflect.FileDescriptor) int { return cmp.Compare(a.Path(), b.Path()) })
	r := report{violations: Check(all...)}
	for _, file := range all {
		if !annotated(file) {
			continue
		}
		if read := compiled(file); read != nil {
			r.understoodFile(read)
		}
	}
	if err := r.err(); err != nil {
		return nil, fmt.Errorf("load the contracts: %w", err)
	}
	c := &Catalog{
		commands:         make(map[string]*Command),
		compensations:    make(map[string]*Compensation),
		sagas:            make(map[string]*SagaDefinition),
		compensatedSagas: make(map[string]*SagaDefinition),
		events:           make(map[string]*EventType),
		rejections:       make(map[protoreflect.FullName]bool),
	}
	for _, file := range all {
		if err := c.addFile(file); err != nil {
			return nil, fmt.Errorf("load the contracts: %w", err)
		}
	}
	return c, nil
}

func (c *Catalog) addFile(file protoreflect.FileDescriptor) error {
	for i := range file.Services().Len() {
		for m := range methodsOf(file.Services().Get(i)) {
			if err := c.addMethod(m); err != nil {
				return err
			}
		}
	}
	if !annotated(file) {
		return nil
	}
	return c.addEvents(file.Messages())
}

func (c *Catalog) addEvents(messages protoreflect.MessageDescriptors) error {
	for i := range messages.Len() {
		event, err := EventTypeOf(messages.Get(i))
		if err != nil {
			return err
		}
		if event != nil {
			c.events[string(event.Type)] = event
		}
		if err := c.addEvents(messages.Get(i).Messages()); err != nil {
			return err
		}
	}
	return nil
}

func (c *Catalog) addMethod(m protoreflect.MethodDescriptor) error {
	command, err := CommandOf(m)
	if err != nil {
		return err
	}
	if command != nil {
		c.commands[command.Method] = command
		for _, rejection := range command.Rejections {
			c.rejections[rejection] = true
		}
		if compensation := command.Compensation; compensation != nil {
			if first := c.compensations[compensation.Method]; first == nil {
				c.compensations[compensation.Method] = compensation
			} else {
				first.SafeRefusals = first.SafeRefusals && compensation.SafeRefusals
			}
		}
	}
	saga, err := SagaDefinitionOf(m)
	if err != nil {
		return err
	}
	if saga != nil {
		if command != nil {
			command.OfSaga = true
			if compensation := command.Compensation; compensation != nil {
				compensation.OfSaga, c.compensations[compensation.Method].OfSaga = true, true
			}
		}
		if saga.Compensation != nil {
			c.compensatedSagas[saga.Compensation.Method] = saga
		}
		c.sagas[saga.Definition] = saga
	}
	return nil
}

// CompensatedSaga returns the saga definition that a method compensates. It returns false if the method is not the
// compensation of a saga.
func (c *Catalog) CompensatedSaga(compensation string) (*SagaDefinition, bool) {
	saga, ok := c.compensatedSagas[compensation]
	return saga, ok
}

// IsRejection returns whether a command declares a message as one that the details of a refusal may carry.
func (c *Catalog) IsRejection(message protoreflect.FullName) bool { return c.rejections[message] }

// EventType returns the event with the full name of a message.
func (c *Catalog) EventType(name string) (*EventType, bool) {
	event, ok := c.events[name]
	return event, ok
}

// EventTypes yields all events, ordered by type.
func (c *Catalog) EventTypes() iter.Seq[*EventType] { return ordered(c.events) }

// Command returns the command with the name of a method, without a leading slash, e.g.
// "acme.customer.v1.CustomerService/ChangeAddress".
func (c *Catalog) Command(method string) (*Command, bool) {
	command, ok := c.commands[method]
	return command, ok
}

// Compensation returns the compensation with the name of a method. When several commands name it, the result describes
// the first of them; [Command.Compensation] describes each.
func (c *Catalog) Compensation(method string) (*Compensation, bool) {
	compensation, ok := c.compensations[method]
	return compensation, ok
}

// CallConfig returns how to call a method that is a command or a compensation.
func (c *Catalog) CallConfig(method string) (*CallConfig, bool) {
	if command, ok := c.commands[method]; ok {
		return &command.CallConfig, true
	}
	if compensation, ok := c.compensations[method]; ok {
		return &compensation.CallConfig, true
	}
	return nil, false
}

// SagaDefinition returns the saga definition with the name of a method, without a leading slash, e.g.
// "acme.card.v1.CardSagas/IssueCard".
func (c *Catalog) SagaDefinition(definition string) (*SagaDefinition, bool) {
	saga, ok := c.sagas[definition]
	return saga, ok
}

// Commands yields all commands, ordered by method.
func (c *Catalog) Commands() iter.Seq[*Command] { return ordered(c.commands) }

// Compensations yields all compensations, ordered by method.
func (c *Catalog) Compensations() iter.Seq[*Compensation] { return ordered(c.compensations) }

// SagaDefinitions yields all saga definitions, ordered by definition.
func (c *Catalog) SagaDefinitions() iter.Seq[*SagaDefinition] { return ordered(c.sagas) }

func ordered[T any](values map[string]T) iter.Seq[T] {
	return func(yield func(T) bool) {
		for _, key := range slices.Sorted(maps.Keys(values)) {
			if !yield(values[key]) {
				return
			}
		}
	}
}
