package server

import (
	"context"
	"fmt"

	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/untrusted"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// turnsAtOnce is how many turns are read from the store at a time.
const turnsAtOnce = 100

// ListSagaRecords lists a saga's journal.
func (s *Server) ListSagaRecords(ctx context.Context, request *treatyv1.ListSagaRecordsRequest) (*treatyv1.ListSagaRecordsResponse, error) {
	id, err := parseName("parent", request.GetParent())
	if err != nil {
		return nil, err
	}
	size, err := pageSize(request.GetPageSize(), defaultRecords)
	if err != nil {
		return nil, err
	}
	scope := tokenScope("records", id)
	var after uint64
	if request.GetPageToken() != "" {
		at, err := parseToken(request.GetPageToken(), scope)
		if err != nil {
			return nil, err
		}
		after = uint64(at.number)
	}
	response := new(treatyv1.ListSagaRecordsResponse)
	veil := veil{catalog: s.catalog, steps: make(map[string]*treatyv1.StepScheduled), waits: make(map[string]*treatyv1.WaitScheduled)}
	// From the first turn on, for a reply's type is known by its step, which may have been scheduled long before.
	for read := uint64(0); ; {
		turns, err := s.store.Turns(ctx, id, read, turnsAtOnce)
		if err != nil {
			return nil, err
		}
		for _, stored := range turns {
			if len(response.Records) >= size {
				response.NextPageToken = position{number: int64(read)}.token(scope)
				return response, nil
			}
			turn := new(treatyv1.Turn)
			if err := proto.Unmarshal(stored.Data, turn); err != nil {
				return nil, fmt.Errorf("%w: saga %s, turn %d: %w", journal.ErrCorrupt, id, stored.Number, err)
			}
			for i, record := range turn.GetRecords() {
				veil.learn(record)
				if stored.Number <= after {
					continue
				}
				veil.cover(record)
				response.Records = append(response.Records, &treatyv1.SagaRecord{
					Name: fmt.Sprintf("%s%s/records/%d-%d", wire.SagaPrefix, id, stored.Number, i+1), Time: turn.GetTime(), Record: record,
				})
			}
			read = stored.Number
		}
		if len(turns) < turnsAtOnce {
			return response, nil
		}
	}
}

// veil redacts the records of one saga. It is shown them in order.
type veil struct {
	catalog    *contract.Catalog
	definition string
	steps      map[string]*treatyv1.StepScheduled
	waits      map[string]*treatyv1.WaitScheduled
}

// learn notes what tells the types of later payloads.
func (v *veil) learn(record *treatyv1.Record) {
	switch r := record.GetKind().(type) {
	case *treatyv1.Record_SagaStarted:
		v.definition = r.SagaStarted.GetDefinition()
	case *treatyv1.Record_StepScheduled:
		// What stays here is read for its methods alone.
		v.steps[r.StepScheduled.GetStep()] = r.StepScheduled
	case *treatyv1.Record_WaitScheduled:
		v.waits[r.WaitScheduled.GetWait()] = r.WaitScheduled
	case *treatyv1.Record_SagaRestarted:
		v.definition = r.SagaRestarted.GetStarted().GetDefinition()
	}
}

// cover redacts a record in place: its serialized payloads, and what its failures carry.
func (v *veil) cover(record *treatyv1.Record) {
	switch r := record.GetKind().(type) {
	case *treatyv1.Record_SagaStarted:
		r.SagaStarted.Request = covered(v.saga().input, r.SagaStarted.GetRequest())
	case *treatyv1.Record_StepScheduled:
		r.StepScheduled.Request = covered(v.call(r.StepScheduled.GetMethod()).input, r.StepScheduled.GetRequest())
	case *treatyv1.Record_StepDone:
		r.StepDone.Reply = covered(v.call(v.steps[r.StepDone.GetStep()].GetMethod()).output, r.StepDone.GetReply())
	case *treatyv1.Record_CompensationScheduled:
		scheduled := v.steps[r.CompensationScheduled.GetStep()]
		r.CompensationScheduled.EditedRequest = covered(v.call(scheduled.GetCompensation().GetMethod()).input, r.CompensationScheduled.GetEditedRequest())
	case *treatyv1.Record_CompensationDone:
		scheduled := v.steps[r.CompensationDone.GetStep()]
		r.CompensationDone.Reply = covered(v.call(scheduled.GetCompensation().GetMethod()).output, r.CompensationDone.GetReply())
	case *treatyv1.Record_SagaSucceeded:
		r.SagaSucceeded.Reply = covered(v.saga().output, r.SagaSucceeded.GetReply())
	case *treatyv1.Record_WaitEnded:
		if event := r.WaitEnded.GetEvent(); event != nil {
			event.Data = covered(v.event(r.WaitEnded), event.GetData())
		}
	case *treatyv1.Record_SagaRestarted:
		if started := r.SagaRestarted.GetStarted(); started != nil {
			started.Request = covered(v.saga().input, started.GetRequest())
		}
		r.SagaRestarted.FirstRequest = covered(v.saga().input, r.SagaRestarted.GetFirstRequest())
	}
	contract.Redact(record)
}

// exchange is the types of a request and its reply; nil when the contract isn't linked.
type exchange struct {
	input, output protoreflect.MessageDescriptor
}

func (v *veil) saga() exchange {
	saga, known := v.catalog.SagaDefinition(v.definition)
	if !known {
		return exchange{}
	}
	return exchange{saga.Input, saga.Output}
}

func (v *veil) call(method string) exchange {
	call, known := v.catalog.CallConfig(method)
	if !known {
		return exchange{}
	}
	return exchange{call.Input, call.Output}
}

// event returns the type of the event that ended a wait; nil when its contract isn't linked.
func (v *veil) event(ended *treatyv1.WaitEnded) protoreflect.MessageDescriptor {
	awaited := v.waits[ended.GetWait()].GetEvents()
	index := int(ended.GetEvent().GetIndex())
	if index < 0 || index >= len(awaited) {
		return nil
	}
	event, known := v.catalog.EventType(awaited[index].GetType())
	if !known {
		return nil
	}
	return event.Message
}

// covered returns a serialized message without what must not be shown. One that nobody here can read isn't shown at
// all.
func covered(message protoreflect.MessageDescriptor, raw []byte) []byte {
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
