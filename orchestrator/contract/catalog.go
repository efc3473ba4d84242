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

// Catalog holds the commands, compensations, sagas and events of a set of files. It is immutable: all methods may be called
// concurrently, and what they return must not be changed. The zero value is empty.
type Catalog struct {
	commands      map[string]*Command
	compensations map[string]*Compensation
	sagas         map[string]*SagaDefinition
	undone        map[string]*SagaDefinition // by the methods that undo them
	events        map[string]*EventType
}

// Load reads all files, mostly protoregistry.GlobalFiles. It fails with all violations joined; each is a Violation that
// errors.As finds.
func Load(files *protoregistry.Files) (*Catalog, error) {
	var all []protoreflect.FileDescriptor
	files.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		all = append(all, file)
		return true
	})
	slices.SortFunc(all, func(a, b protoreflect.FileDescriptor) int { return cmp.Compare(a.Path(), b.Path()) })
	if violations := Check(all...); len(violations) > 0 {
		return nil, fmt.Errorf("load the contracts: %w", joined(violations))
	}
	c := &Catalog{
		commands:      make(map[string]*Command),
		compensations: make(map[string]*Compensation),
		sagas:         make(map[string]*SagaDefinition),
		undone:        make(map[string]*SagaDefinition),
		events:        make(map[string]*EventType),
	}
	for _, file := range all {
		for i := range file.Services().Len() {
			for m := range methodsOf(file.Services().Get(i)) {
				if err := c.add(m); err != nil {
					return nil, fmt.Errorf("load the contracts: %w", err)
				}
			}
		}
	}
	for _, file := range all {
		if annotated(file) {
			if err := c.addEvents(file.Messages()); err != nil {
				return nil, fmt.Errorf("load the contracts: %w", err)
			}
		}
	}
	return c, nil
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

func (c *Catalog) add(m protoreflect.MethodDescriptor) error {
	command, err := CommandOf(m)
	if err != nil {
		return err
	}
	if command != nil {
		c.commands[command.Method] = command
		if undo := command.Compensation; undo != nil && c.compensations[undo.Method] == nil {
			c.compensations[undo.Method] = undo
		}
	}
	saga, err := SagaDefinitionOf(m)
	if err != nil {
		return err
	}
	if saga != nil {
		if saga.Compensation != nil {
			c.undone[saga.Compensation.Method] = saga
		}
		c.sagas[saga.Definition] = saga
	}
	return nil
}

// CompensatedSaga returns the saga definition that a compensation undoes; false when it undoes a command of a participant.
func (c *Catalog) CompensatedSaga(compensation string) (*SagaDefinition, bool) {
	saga, ok := c.undone[compensation]
	return saga, ok
}

// EventType returns the event that a message is, by its full name.
func (c *Catalog) EventType(name string) (*EventType, bool) {
	event, ok := c.events[name]
	return event, ok
}

// EventTypes yields all events, ordered by type.
func (c *Catalog) EventTypes() iter.Seq[*EventType] { return ordered(c.events) }

// Command returns the command of a method, e.g. "acme.customer.v1.CustomerService/ChangeAddress", without a leading slash.
func (c *Catalog) Command(method string) (*Command, bool) {
	command, ok := c.commands[method]
	return command, ok
}

// Compensation returns the compensation that a method is. When several commands name it, its fields are those for the first
// of them; Command.Compensation has those for each.
func (c *Catalog) Compensation(method string) (*Compensation, bool) {
	compensation, ok := c.compensations[method]
	return compensation, ok
}

// CallConfig returns how a method is called, whether it is a command or a compensation.
func (c *Catalog) CallConfig(method string) (*CallConfig, bool) {
	if command, ok := c.commands[method]; ok {
		return &command.CallConfig, true
	}
	if compensation, ok := c.compensations[method]; ok {
		return &compensation.CallConfig, true
	}
	return nil, false
}

// SagaDefinition returns a saga definition, e.g. "acme.card.v1.CardSagas/IssueCard", without a leading slash.
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
