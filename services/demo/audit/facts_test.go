package audit

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// testFacts are facts that keep every promise, for tests to break one.
type testFacts struct {
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
func good() *testFacts {
	f := &testFacts{clock: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	f.Ledgers = []Ledger{{Service: "customer"}, {Service: "card"}}

	f.begin("won")
	f.step("won", "1", compensatable)
	f.row("customer", "won", "1", Action, Executed, "customers/won@2")
	f.done("won", "1")
	f.step("won", "2", query)
	f.done("won", "2")
	f.step("won", "3", pivot)
	f.row("card", "won", "3", Action, Executed, "cards/won")
	f.done("won", "3")
	f.succeed("won")
	f.Effects = append(f.Effects, Effect{Service: "customer", Resource: "customers/won@2"},
		Effect{Service: "card", Resource: "cards/won"})

	f.begin("lost")
	f.step("lost", "1", compensatable)
	f.row("customer", "lost", "1", Action, Executed, "customers/lost@2")
	f.done("lost", "1")
	f.step("lost", "2", compensatable)
	f.row("card", "lost", "2", Action, Executed, "cards/lost")
	f.record("lost", &treatyv1.Record{Kind: &treatyv1.Record_StepUnknown{
		StepUnknown: &treatyv1.StepUnknown{Step: "2"},
	}})
	f.step("lost", "3", compensatable)
	f.row("card", "lost", "3", Action, Refused)
	f.record("lost", &treatyv1.Record{Kind: &treatyv1.Record_StepRefused{
		StepRefused: &treatyv1.StepRefused{Step: "3"},
	}})
	f.decide("lost")
	f.undo("lost", "2", "card", Executed)
	f.undo("lost", "1", "customer", Executed)
	f.compensated("lost")
	f.Effects = append(f.Effects, Effect{Service: "customer", Resource: "customers/lost@2", Undone: true})

	f.begin("late")
	f.step("late", "1", compensatable)
	f.record("late", &treatyv1.Record{Kind: &treatyv1.Record_StepUnknown{
		StepUnknown: &treatyv1.StepUnknown{Step: "1"},
	}})
	f.decide("late")
	f.undo("late", "1", "customer", NullCompensated)
	f.compensated("late")
	f.row("customer", "late", "1", Action, RefusedLate)
	return f
}

func (f *testFacts) tick() time.Time {
	f.clock = f.clock.Add(time.Millisecond)
	return f.clock
}

func (f *testFacts) saga(id string) *Saga {
	i := slices.IndexFunc(f.Sagas, func(s Saga) bool { return s.View.GetName() == "sagas/"+id })
	return &f.Sagas[i]
}

func (f *testFacts) begin(id string) {
	f.Sagas = append(f.Sagas, Saga{View: &treatyv1.Saga{Name: "sagas/" + id,
		State: treatyv1.SagaState_SAGA_STATE_RUNNING}})
	f.Starts = append(f.Starts, Start{Definition: "acme.Sagas/Do", RequestID: "request-" + id, Saga: "sagas/" + id})
	f.record(id, &treatyv1.Record{Kind: &treatyv1.Record_SagaStarted{
		SagaStarted: &treatyv1.SagaStarted{Definition: "acme.Sagas/Do", RequestId: "request-" + id},
	}})
}

func (f *testFacts) record(id string, r *treatyv1.Record) {
	s := f.saga(id)
	s.Records = append(s.Records, &treatyv1.SagaRecord{
		Name: fmt.Sprintf("sagas/%s/records/%d-0", id, len(s.Records)+1), Time: timestamppb.New(f.tick()), Record: r,
	})
}

func (f *testFacts) step(id, path string, kind treatyv1.CommandKind) {
	scheduled := &treatyv1.StepScheduled{Step: path, Kind: kind}
	if kind == compensatable {
		scheduled.Compensation = &treatyv1.CompensationPlan{Method: "Undo"}
	}
	f.record(id, &treatyv1.Record{Kind: &treatyv1.Record_StepScheduled{StepScheduled: scheduled}})
}

func (f *testFacts) done(id, path string) {
	f.record(id, &treatyv1.Record{Kind: &treatyv1.Record_StepDone{StepDone: &treatyv1.StepDone{Step: path}}})
}

func (f *testFacts) decide(id string) {
	f.record(id, &treatyv1.Record{Kind: &treatyv1.Record_CompensationDecided{
		CompensationDecided: &treatyv1.CompensationDecided{
			Cause: treatyv1.CompensationCause_COMPENSATION_CAUSE_CANCELLED,
		},
	}})
}

func (f *testFacts) undo(id, path, service string, verdict Verdict) {
	f.record(id, &treatyv1.Record{Kind: &treatyv1.Record_CompensationScheduled{
		CompensationScheduled: &treatyv1.CompensationScheduled{Step: path},
	}})
	f.row(service, id, path, Compensation, verdict)
	f.record(id, &treatyv1.Record{Kind: &treatyv1.Record_CompensationDone{
		CompensationDone: &treatyv1.CompensationDone{Step: path},
	}})
}

func (f *testFacts) succeed(id string) {
	f.record(id, &treatyv1.Record{Kind: &treatyv1.Record_SagaSucceeded{SagaSucceeded: &treatyv1.SagaSucceeded{}}})
	f.told(id, treatyv1.SagaState_SAGA_STATE_SUCCEEDED)
}

func (f *testFacts) compensated(id string) {
	f.record(id, &treatyv1.Record{Kind: &treatyv1.Record_SagaCompensated{SagaCompensated: &treatyv1.SagaCompensated{}}})
	f.told(id, treatyv1.SagaState_SAGA_STATE_COMPENSATED)
}

func (f *testFacts) told(id string, state treatyv1.SagaState) {
	f.saga(id).View.State = state
	f.start(id).Told = state
}

func (f *testFacts) start(id string) *Start {
	i := slices.IndexFunc(f.Starts, func(s Start) bool { return s.Saga == "sagas/"+id })
	return &f.Starts[i]
}

func (f *testFacts) ledger(service string) *Ledger {
	i := slices.IndexFunc(f.Ledgers, func(l Ledger) bool { return l.Service == service })
	return &f.Ledgers[i]
}

func (f *testFacts) row(service, id, path string, d Direction, v Verdict, effects ...string) {
	l := f.ledger(service)
	l.Rows = append(l.Rows, Row{
		Sequence: int64(len(l.Rows) + 1), CommandID: "sagas/" + id + "/steps/" + path, Direction: d, Verdict: v,
		Time: f.tick(), Effects: effects,
	})
}

// find returns one row of a ledger, and its index.
func (f *testFacts) find(id, path string, d Direction) (*Ledger, int) {
	for i := range f.Ledgers {
		for j, row := range f.Ledgers[i].Rows {
			if row.CommandID == "sagas/"+id+"/steps/"+path && row.Direction == d {
				return &f.Ledgers[i], j
			}
		}
	}
	return nil, 0
}

func (f *testFacts) edit(id, path string, d Direction, change func(*Row)) {
	l, i := f.find(id, path, d)
	change(&l.Rows[i])
}

// drop removes one row.
func (f *testFacts) drop(id, path string, d Direction) {
	l, i := f.find(id, path, d)
	l.Rows = slices.Delete(l.Rows, i, i+1)
}

// forget removes the records of some kinds from a saga.
func (f *testFacts) forget(id, kind string) {
	s := f.saga(id)
	s.Records = slices.DeleteFunc(s.Records, func(r *treatyv1.SagaRecord) bool { return kindOf(r.GetRecord()) == kind })
}

// swap swaps two of a saga's records but not their times. Each is named by its kind and step, for example "step_done
// 1".
func (f *testFacts) swap(id, a, b string) {
	records := f.saga(id).Records
	find := func(what string) int {
		return slices.IndexFunc(records, func(r *treatyv1.SagaRecord) bool {
			return strings.HasPrefix(what, kindOf(r.GetRecord())) && strings.Contains(r.GetRecord().String(),
				`step:"`+what[strings.LastIndexByte(what, ' ')+1:]+`"`)
		})
	}
	i, j := find(a), find(b)
	records[i].Record, records[j].Record = records[j].Record, records[i].Record
}
