package server

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/untrusted"
)

// recordRedactor redacts the records of one saga, which it must observe in order.
type recordRedactor struct {
	catalog    *contract.Catalog
	definition string
	steps      map[string]*treatyv1.StepScheduled
	waits      map[string]*treatyv1.WaitScheduled
}

// observe keeps what determines the types of later payloads.
func (r *recordRedactor) observe(record *treatyv1.Record) {
	switch kind := record.GetKind().(type) {
	case *treatyv1.Record_SagaStarted:
		r.definition = kind.SagaStarted.GetDefinition()
	case *treatyv1.Record_StepScheduled:
		// Only the methods of the kept record are read. Its payloads may be redacted already.
		r.steps[kind.StepScheduled.GetStep()] = kind.StepScheduled
	case *treatyv1.Record_WaitScheduled:
		r.waits[kind.WaitScheduled.GetWait()] = kind.WaitScheduled
	case *treatyv1.Record_SagaRestarted:
		r.definition = kind.SagaRestarted.GetStarted().GetDefinition()
	}
}

// redact redacts a record in place: its serialized payloads and the details of its failures.
func (r *recordRedactor) redact(record *treatyv1.Record) {
	switch kind := record.GetKind().(type) {
	case *treatyv1.Record_SagaStarted:
		kind.SagaStarted.Request = redactPayload(r.saga().input, kind.SagaStarted.GetRequest())
	case *treatyv1.Record_StepScheduled:
		kind.StepScheduled.Request = redactPayload(
			r.call(kind.StepScheduled.GetMethod()).input, kind.StepScheduled.GetRequest(),
		)
	case *treatyv1.Record_StepDone:
		kind.StepDone.Reply = redactPayload(
			r.call(r.steps[kind.StepDone.GetStep()].GetMethod()).output, kind.StepDone.GetReply(),
		)
	case *treatyv1.Record_CompensationScheduled:
		scheduled := r.steps[kind.CompensationScheduled.GetStep()]
		kind.CompensationScheduled.EditedRequest = redactPayload(
			r.call(scheduled.GetCompensation().GetMethod()).input, kind.CompensationScheduled.GetEditedRequest(),
		)
	case *treatyv1.Record_CompensationDone:
		scheduled := r.steps[kind.CompensationDone.GetStep()]
		kind.CompensationDone.Reply = redactPayload(
			r.call(scheduled.GetCompensation().GetMethod()).output, kind.CompensationDone.GetReply(),
		)
	case *treatyv1.Record_SagaSucceeded:
		kind.SagaSucceeded.Reply = redactPayload(r.saga().output, kind.SagaSucceeded.GetReply())
	case *treatyv1.Record_WaitEnded:
		if event := kind.WaitEnded.GetEvent(); event != nil {
			event.Data = redactPayload(r.event(kind.WaitEnded), event.GetData())
		}
	case *treatyv1.Record_SagaRestarted:
		if started := kind.SagaRestarted.GetStarted(); started != nil {
			started.Request = redactPayload(r.saga().input, started.GetRequest())
		}
		kind.SagaRestarted.FirstRequest = redactPayload(r.saga().input, kind.SagaRestarted.GetFirstRequest())
	}
	contract.Redact(record)
}

// messageTypes are the types of a request and its reply; nil when the contract isn't linked.
type messageTypes struct {
	input, output protoreflect.MessageDescriptor
}

func (r *recordRedactor) saga() messageTypes {
	saga, known := r.catalog.SagaDefinition(r.definition)
	if !known {
		return messageTypes{}
	}
	return messageTypes{saga.Input, saga.Output}
}

func (r *recordRedactor) call(method string) messageTypes {
	call, known := r.catalog.CallConfig(method)
	if !known {
		return messageTypes{}
	}
	return messageTypes{call.Input, call.Output}
}

// event returns the type of the event that ended a wait. It returns nil when the contract isn't linked.
func (r *recordRedactor) event(ended *treatyv1.WaitEnded) protoreflect.MessageDescriptor {
	awaited := r.waits[ended.GetWait()].GetEvents()
	index := int(ended.GetEvent().GetIndex())
	if index < 0 || index >= len(awaited) {
		return nil
	}
	event, known := r.catalog.EventType(awaited[index].GetType())
	if !known {
		return nil
	}
	return event.Message
}

// redactPayload redacts a serialized message. It returns nil for a message that can't be parsed.
func redactPayload(message protoreflect.MessageDescriptor, raw []byte) []byte {
	if message == nil || len(raw) == 0 {
		return nil
	}
	held := untrusted.MessageType(message).New().Interface()
	if (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(raw, held) != nil {
		return nil
	}
	contract.Redact(held)
	out, err := proto.MarshalOptions{AllowPartial: true, Deterministic: true}.Marshal(held)
	if err != nil {
		return nil
	}
	return out
}
