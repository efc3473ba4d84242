package audit

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// world is a set of facts that keeps every promise, for tests to break one.
type world struct {
	Facts
	clock time.Time
}

const (
	compensatable = treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE
	pivot         = treatyv1.CommandKind_COMMAND_KIND_PIVOT
	query         = treatyv1.CommandKind_COMMAND_KIND_QUERY
)

// good returns a saga "won" that succeeded, a saga "lost" that was compensated after its third step was refused and the
// outcome of its second step stayed unknown, and a saga "late" whose only action arrived after its compensation.
func good() *world {
	w := &world{clock: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	w.Ledgers = []Ledger{{Service: "customer"}, {Service: "card"}}

	w.begin("won")
	w.step("won", "1", compensatable)
	w.row("customer", "won", "1", Action, Executed, "customers/won@2")
	w.done("won", "1")
	w.step("won", "2", query)
	w.done("won", "2")
	w.step("won", "3", pivot)
	w.row("card", "won", "3", Action, Executed, "cards/won")
	w.done("won", "3")
	w.succeed("won")
	w.Effects = append(w.Effects, Effect{Service: "customer", Resource: "customers/won@2"},
		Effect{Service: "card", Resource: "cards/won"})

	w.begin("lost")
	w.step("lost", "1", compensatable)
	w.row("customer", "lost", "1", Action, Executed, "customers/lost@2")
	w.done("lost", "1")
	w.step("lost", "2", compensatable)
	w.row("card", "lost", "2", Action, Executed, "cards/lost")
	w.record("lost", &treatyv1.Record{Kind: &treatyv1.Record_StepUnknown{
		StepUnknown: &treatyv1.StepUnknown{Step: "2"},
	}})
	w.step("lost", "3", compensatable)
	w.row("card", "lost", "3", Action, Refused)
	w.record("lost", &treatyv1.Record{Kind: &treatyv1.Record_StepRefused{
		StepRefused: &treatyv1.StepRefused{Step: "3"},
	}})
	w.decide("lost")
	w.undo("lost", "2", "card", Executed)
	w.undo("lost", "1", "customer", Executed)
	w.compensated("lost")
	w.Effects = append(w.Effects, Effect{Service: "customer", Resource: "customers/lost@2", Undone: true})

	w.begin("late")
	w.step("late", "1", compensatable)
	w.record("late", &treatyv1.Record{Kind: &treatyv1.Record_StepUnknown{
		StepUnknown: &treatyv1.StepUnknown{Step: "1"},
	}})
	w.decide("late")
	w.undo("late", "1", "customer", NullCompensated)
	w.compensated("late")
	w.row("customer", "late", "1", Action, RefusedLate)
	return w
}

func (w *world) tick() time.Time {
	w.clock = w.clock.Add(time.Millisecond)
	return w.clock
}

func (w *world) saga(id string) *Saga {
	i := slices.IndexFunc(w.Sagas, func(s Saga) bool { return s.View.GetName() == "sagas/"+id })
	return &w.Sagas[i]
}

func (w *world) begin(id string) {
	w.Sagas = append(w.Sagas, Saga{View: &treatyv1.Saga{Name: "sagas/" + id,
		State: treatyv1.SagaState_SAGA_STATE_RUNNING}})
	w.Starts = append(w.Starts, Start{Definition: "acme.Sagas/Do", RequestID: "request-" + id, Saga: "sagas/" + id})
	w.record(id, &treatyv1.Record{Kind: &treatyv1.Record_SagaStarted{
		SagaStarted: &treatyv1.SagaStarted{Definition: "acme.Sagas/Do", RequestId: "request-" + id},
	}})
}

func (w *world) record(id string, r *treatyv1.Record) {
	s := w.saga(id)
	s.Records = append(s.Records, &treatyv1.SagaRecord{
		Name: fmt.Sprintf("sagas/%s/records/%d-0", id, len(s.Records)+1), Time: timestamppb.New(w.tick()), Record: r,
	})
}

func (w *world) step(id, path string, kind treatyv1.CommandKind) {
	scheduled := &treatyv1.StepScheduled{Step: path, Kind: kind}
	if kind == compensatable {
		scheduled.Compensation = &treatyv1.CompensationPlan{Method: "Undo"}
	}
	w.record(id, &treatyv1.Record{Kind: &treatyv1.Record_StepScheduled{StepScheduled: scheduled}})
}

func (w *world) done(id, path string) {
	w.record(id, &treatyv1.Record{Kind: &treatyv1.Record_StepDone{StepDone: &treatyv1.StepDone{Step: path}}})
}

func (w *world) decide(id string) {
	w.record(id, &treatyv1.Record{Kind: &treatyv1.Record_CompensationDecided{
		CompensationDecided: &treatyv1.CompensationDecided{
			Cause: treatyv1.CompensationCause_COMPENSATION_CAUSE_CANCELLED,
		},
	}})
}

func (w *world) undo(id, path, service string, verdict Verdict) {
	w.record(id, &treatyv1.Record{Kind: &treatyv1.Record_CompensationScheduled{
		CompensationScheduled: &treatyv1.CompensationScheduled{Step: path},
	}})
	w.row(service, id, path, Compensation, verdict)
	w.record(id, &treatyv1.Record{Kind: &treatyv1.Record_CompensationDone{
		CompensationDone: &treatyv1.CompensationDone{Step: path},
	}})
}

func (w *world) succeed(id string) {
	w.record(id, &treatyv1.Record{Kind: &treatyv1.Record_SagaSucceeded{SagaSucceeded: &treatyv1.SagaSucceeded{}}})
	w.told(id, treatyv1.SagaState_SAGA_STATE_SUCCEEDED)
}

func (w *world) compensated(id string) {
	w.record(id, &treatyv1.Record{Kind: &treatyv1.Record_SagaCompensated{SagaCompensated: &treatyv1.SagaCompensated{}}})
	w.told(id, treatyv1.SagaState_SAGA_STATE_COMPENSATED)
}

func (w *world) told(id string, state treatyv1.SagaState) {
	w.saga(id).View.State = state
	w.start(id).Told = state
}

func (w *world) start(id string) *Start {
	i := slices.IndexFunc(w.Starts, func(s Start) bool { return s.Saga == "sagas/"+id })
	return &w.Starts[i]
}

func (w *world) ledger(service string) *Ledger {
	i := slices.IndexFunc(w.Ledgers, func(l Ledger) bool { return l.Service == service })
	return &w.Ledgers[i]
}

func (w *world) row(service, id, path string, d Direction, v Verdict, effects ...string) {
	l := w.ledger(service)
	l.Rows = append(l.Rows, Row{
		Sequence: int64(len(l.Rows) + 1), CommandID: "sagas/" + id + "/steps/" + path, Direction: d, Verdict: v,
		Time: w.tick(), Effects: effects,
	})
}

// find returns one row of a ledger, and its index.
func (w *world) find(id, path string, d Direction) (*Ledger, int) {
	for i := range w.Ledgers {
		for j, row := range w.Ledgers[i].Rows {
			if row.CommandID == "sagas/"+id+"/steps/"+path && row.Direction == d {
				return &w.Ledgers[i], j
			}
		}
	}
	return nil, 0
}

func (w *world) edit(id, path string, d Direction, change func(*Row)) {
	l, i := w.find(id, path, d)
	change(&l.Rows[i])
}

// drop removes one row.
func (w *world) drop(id, path string, d Direction) {
	l, i := w.find(id, path, d)
	l.Rows = slices.Delete(l.Rows, i, i+1)
}

// forget removes the records of some kinds from a saga.
func (w *world) forget(id, kind string) {
	s := w.saga(id)
	s.Records = slices.DeleteFunc(s.Records, func(r *treatyv1.SagaRecord) bool { return kindOf(r.GetRecord()) == kind })
}

// swap swaps two of a saga's records but not their times. Each is named by its kind and step, for example "step_done
// 1".
func (w *world) swap(id, a, b string) {
	records := w.saga(id).Records
	find := func(what string) int {
		return slices.IndexFunc(records, func(r *treatyv1.SagaRecord) bool {
			return strings.HasPrefix(what, kindOf(r.GetRecord())) && strings.Contains(r.GetRecord().String(),
				`step:"`+what[strings.LastIndexByte(what, ' ')+1:]+`"`)
		})
	}
	i, j := find(a), find(b)
	records[i].Record, records[j].Record = records[j].Record, records[i].Record
}
