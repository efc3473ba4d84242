package audit

import (
	"strings"
	"testing"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// language returns a world with what the saga language adds: a saga "tried" that succeeded although a scope of it failed, a saga
// "beside" whose steps ran side by side and were undone, with the saga "child" as one of them, a broadcast, an awaited event, and a saga
// "again" in its second round.
func language() *world {
	w := good()
	w.begin("tried")
	w.step("tried", "1.1.1", compensatable)
	w.row("customer", "tried", "1.1.1", Action, Executed)
	w.done("tried", "1.1.1")
	w.record("tried", &treatyv1.Record{Kind: &treatyv1.Record_ScopeCompensationDecided{
		ScopeCompensationDecided: &treatyv1.ScopeCompensationDecided{Scope: "1"},
	}})
	w.undo("tried", "1.1.1", "customer", Executed)
	w.step("tried", "2", compensatable)
	w.row("customer", "tried", "2", Action, Executed)
	w.done("tried", "2")
	w.record("tried", &treatyv1.Record{Kind: &treatyv1.Record_BroadcastScheduled{
		BroadcastScheduled: &treatyv1.BroadcastScheduled{Broadcast: "3", Participants: []string{"a.A"}},
	}})
	w.record("tried", &treatyv1.Record{Kind: &treatyv1.Record_StepScheduled{
		StepScheduled: &treatyv1.StepScheduled{Step: "3.1.1", Kind: query, Participant: "a.A"},
	}})
	w.done("tried", "3.1.1")
	w.event("tried", "4", 7)
	w.succeed("tried")

	w.begin("child")
	w.saga("child").Records[0].GetRecord().GetSagaStarted().Parent = &treatyv1.Parent{CommandId: "sagas/beside/steps/1.2.1"}
	w.saga("child").Records[0].GetRecord().GetSagaStarted().Definition = "acme.Sagas/Child"
	w.start("child").Definition = "acme.Sagas/Child"
	w.begin("beside")
	w.step("beside", "1.1.1", compensatable)
	w.row("customer", "beside", "1.1.1", Action, Executed)
	w.done("beside", "1.1.1")
	w.record("beside", &treatyv1.Record{Kind: &treatyv1.Record_StepScheduled{StepScheduled: &treatyv1.StepScheduled{
		Step: "1.2.1", Method: "acme.Sagas/Child", Kind: compensatable, Compensation: &treatyv1.CompensationPlan{Method: "Undo"},
	}}})
	w.succeed("child")
	w.done("beside", "1.2.1")
	w.decide("beside")
	w.undo("beside", "1.1.1", "customer", Executed)
	w.record("beside", &treatyv1.Record{Kind: &treatyv1.Record_CompensationScheduled{CompensationScheduled: &treatyv1.CompensationScheduled{Step: "1.2.1"}}})
	w.record("child", &treatyv1.Record{Kind: &treatyv1.Record_CompensationDecided{
		CompensationDecided: &treatyv1.CompensationDecided{Cause: treatyv1.CompensationCause_COMPENSATION_CAUSE_PARENT},
	}})
	w.compensated("child")
	w.record("beside", &treatyv1.Record{Kind: &treatyv1.Record_CompensationDone{CompensationDone: &treatyv1.CompensationDone{Step: "1.2.1"}}})
	w.compensated("beside")

	w.begin("again")
	w.row("customer", "again", "1", Action, Executed)
	started := w.saga("again").Records[0].GetRecord().GetSagaStarted()
	w.saga("again").Records[0].Record = &treatyv1.Record{Kind: &treatyv1.Record_SagaRestarted{SagaRestarted: &treatyv1.SagaRestarted{Started: started, Round: 2}}}
	w.step("again", "r2.1", compensatable)
	w.row("customer", "again", "r2.1", Action, Accepted)
	w.edit("again", "r2.1", Action, func(r *Row) { r.Verdict = Executed })
	w.done("again", "r2.1")
	w.succeed("again")
	return w
}

func (w *world) event(id, wait string, position uint64) {
	w.record(id, &treatyv1.Record{Kind: &treatyv1.Record_WaitEnded{WaitEnded: &treatyv1.WaitEnded{
		Wait: wait, How: &treatyv1.WaitEnded_Event{Event: &treatyv1.EventArrived{Position: position}},
	}}})
}

func TestTheLanguageIsUnderstood(t *testing.T) {
	if report := Check(&language().Facts); len(report.Violations) > 0 {
		t.Fatalf("violations in a good world:\n%s", report)
	}
}

func TestPlantedViolationsOfTheLanguageAreFound(t *testing.T) {
	for _, test := range []struct {
		name  string
		wants Invariant
		says  string
		plant func(*world)
	}{
		{"a failed scope isn't undone in the journal", AllOrNothing, "isn't undone", func(w *world) { w.forget("tried", "compensation_done") }},
		{"a failed scope isn't undone at the participant", AllOrNothing, "wasn't undone there", func(w *world) { w.drop("tried", "1.1.1", Compensation) }},
		{"no scope failed, and a step was undone", AllOrNothing, "was undone, and the saga succeeded", func(w *world) {
			w.forget("tried", "scope_compensation_decided")
		}},
		{"a participant of a broadcast was left out", AllOrNothing, "wasn't done by b.B", func(w *world) {
			for _, r := range w.saga("tried").Records {
				if broadcast := r.GetRecord().GetBroadcastScheduled(); broadcast != nil {
					broadcast.Participants = append(broadcast.Participants, "b.B")
				}
			}
		}},
		{"an event is taken twice", OneEffect, "was taken before", func(w *world) { w.event("tried", "5", 7) }},
		{"a child isn't undone", AllOrNothing, "ended as SAGA_STATE_SUCCEEDED", func(w *world) {
			w.forget("child", "compensation_decided")
			w.forget("child", "saga_compensated")
		}},
		{"a child was never started", AllOrNothing, "was never started", func(w *world) {
			w.saga("child").Records[0].GetRecord().GetSagaStarted().Parent = nil
		}},
		{"a saga of its own is undone after it succeeded", NothingAfterTheEnd, "after the saga's end", func(w *world) {
			w.record("won", &treatyv1.Record{Kind: &treatyv1.Record_CompensationDecided{
				CompensationDecided: &treatyv1.CompensationDecided{Cause: treatyv1.CompensationCause_COMPENSATION_CAUSE_PARENT},
			}})
		}},
		{"an accepted command isn't undone", AllOrNothing, "wasn't undone there", func(w *world) {
			w.edit("lost", "1", Action, func(r *Row) { r.Verdict = Accepted })
			w.drop("lost", "1", Compensation)
		}},
		{"a command of a round that hasn't begun", DurableBeforeSent, "no such step", func(w *world) { w.row("card", "again", "r3.1", Action, Executed) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := language()
			test.plant(w)
			report := Check(&w.Facts)
			for _, v := range report.Of(test.wants) {
				if strings.Contains(v.Text, test.says) {
					return
				}
			}
			t.Errorf("no violation of invariant %d that says %q; found:\n%s", test.wants, test.says, report)
		})
	}
}

func TestStepsThatFollowEachOther(t *testing.T) {
	for _, test := range []struct {
		later, earlier string
		follows        bool
	}{
		{"2", "1", true},
		{"10", "9", true},
		{"1", "2", false},
		{"1.2.1", "1.1.9", false},
		{"1.1.2", "1.1.1", true},
		{"2", "1.7.3", true},
		{"r2.3.1.1", "r2.2", true},
		{"1.1.1.2.1", "1.1.1.1.5", false},
	} {
		if got := (&step{path: test.later}).follows(&step{path: test.earlier}); got != test.follows {
			t.Errorf("%s follows %s: %v", test.later, test.earlier, got)
		}
	}
}
