package schema

import (
	"google.golang.org/protobuf/reflect/protoreflect"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// JournalTypes finds the types of the payloads in a journal. The journal stores payloads without their types, which
// follow from the methods and events in earlier records.
type JournalTypes struct {
	schema     *Schema
	definition string
	steps      map[string]*treatyv1.StepScheduled
	waits      map[string]*treatyv1.WaitScheduled

	current protoreflect.MessageDescriptor
}

// NewJournalTypes starts at the beginning of a journal.
func NewJournalTypes(schema *Schema) *JournalTypes {
	return &JournalTypes{
		schema: schema,
		steps:  map[string]*treatyv1.StepScheduled{},
		waits:  map[string]*treatyv1.WaitScheduled{},
	}
}

// Encoder returns an encoder for the current record. It writes the payload as JSON.
func (t *JournalTypes) Encoder() *Encoder { return &Encoder{schema: t.schema, payload: t.payload} }

// Next moves to a record. Call it with every record of the journal, oldest first.
func (t *JournalTypes) Next(record *treatyv1.Record) {
	t.current = nil
	switch kind := record.GetKind().(type) {
	case *treatyv1.Record_SagaStarted:
		t.definition = kind.SagaStarted.GetDefinition()
		t.current, _ = t.types(t.definition)
	case *treatyv1.Record_StepScheduled:
		t.steps[kind.StepScheduled.GetStep()] = kind.StepScheduled
		t.current, _ = t.types(kind.StepScheduled.GetMethod())
	case *treatyv1.Record_StepDone:
		_, t.current = t.types(t.steps[kind.StepDone.GetStep()].GetMethod())
	case *treatyv1.Record_CompensationScheduled:
		t.current, _ = t.types(t.steps[kind.CompensationScheduled.GetStep()].GetCompensation().GetMethod())
	case *treatyv1.Record_CompensationDone:
		_, t.current = t.types(t.steps[kind.CompensationDone.GetStep()].GetCompensation().GetMethod())
	case *treatyv1.Record_SagaSucceeded:
		_, t.current = t.types(t.definition)
	case *treatyv1.Record_WaitScheduled:
		t.waits[kind.WaitScheduled.GetWait()] = kind.WaitScheduled
	case *treatyv1.Record_WaitEnded:
		t.current = t.event(kind.WaitEnded)
	case *treatyv1.Record_SagaRestarted:
		t.definition = kind.SagaRestarted.GetStarted().GetDefinition()
		t.current, _ = t.types(t.definition)
	}
}

// event returns the type of the event that ended a wait, or nil if it isn't known.
func (t *JournalTypes) event(ended *treatyv1.WaitEnded) protoreflect.MessageDescriptor {
	awaited := t.waits[ended.GetWait()].GetEvents()
	index := int(ended.GetEvent().GetIndex())
	if ended.GetEvent() == nil || index < 0 || index >= len(awaited) {
		return nil
	}
	message, err := t.schema.Message(protoreflect.FullName(awaited[index].GetType()))
	if err != nil {
		return nil
	}
	return message
}

// Payload returns the type of the payload in the current record, or nil if it isn't known.
func (t *JournalTypes) Payload() protoreflect.MessageDescriptor { return t.current }

func (t *JournalTypes) types(name string) (input, output protoreflect.MessageDescriptor) {
	method, err := t.schema.Method(name)
	if err != nil {
		return nil, nil
	}
	return method.Input(), method.Output()
}

// payload tells the encoder which bytes fields contain messages. Otherwise the encoder would write them in base64, with
// the values of fields marked debug_redact.
func (t *JournalTypes) payload(field protoreflect.FieldDescriptor) (protoreflect.MessageDescriptor, bool) {
	if field.ParentFile().Package() != "treaty.v1" {
		return nil, false
	}
	switch field.Name() {
	case "request", "reply", "edited_request", "data":
		return t.current, true
	default:
		return nil, false
	}
}
