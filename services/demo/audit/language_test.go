package audit

import (
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// language returns a world with the parts of the saga language: a saga "tried" that succeeded although one of its
// scopes failed, a saga "beside" whose parallel steps were compensated, with the saga "child" as one of them, a
// broadcast, an awaited event, and a saga "again" in its second round.
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

	w.begin("beside")
	w.step("beside", "1.1.1", compensatable)
	w.row("customer", "beside", "1.1.1", Action, Executed)
	w.done("beside", "1.1.1")
	w.record("beside", &treatyv1.Record{Kind: &treatyv1.Record_StepScheduled{StepScheduled: &treatyv1.StepScheduled{
		Step: "1.2.1", Method: "acme.Sagas/Child", Kind: compensatable,
		Compensation: &treatyv1.CompensationPlan{Method: "Undo"},
	}}})
	w.begin("child")
	w.started("child").Parent = &treatyv1.Parent{CommandId: "sagas/beside/steps/1.2.1", Local: true}
	w.started("child").Definition = "acme.Sagas/Child"
	w.start("child").Definition = "acme.Sagas/Child"
	w.step("child", "1", compensatable)
	w.row("card", "child", "1", Action, Executed)
	w.done("child", "1")
	w.succeed("child")
	w.done("beside", "1.2.1")
	w.decide("beside")
	w.undo("beside", "1.1.1", "customer", Executed)
	w.record("beside", &treatyv1.Record{Kind: &treatyv1.Record_CompensationScheduled{
		CompensationScheduled: &treatyv1.CompensationScheduled{Step: "1.2.1"},
	}})
	w.record("child", &treatyv1.Record{Kind: &treatyv1.Record_CompensationDecided{
		CompensationDecided: &treatyv1.CompensationDecided{Cause: treatyv1.CompensationCause_COMPENSATION_CAUSE_PARENT},
	}})
	w.undo("child", "1", "card", Executed)
	w.compensated("child")
	w.record("beside", &treatyv1.Record{Kind: &treatyv1.Record_CompensationDone{
		CompensationDone: &treatyv1.CompensationDone{Step: "1.2.1"},
	}})
	w.compensated("beside")

	w.begin("again")
	w.row("customer", "again", "1", Action, Executed)
	w.saga("again").Records[0].Record = &treatyv1.Record{Kind: &treatyv1.Record_SagaRestarted{
		SagaRestarted: &treatyv1.SagaRestarted{
			Started: w.started("again"), Round: 2, EventsTaken: []*treatyv1.EventTaken{{Key: awaitedKey, Position: 5}},
		},
	}}
	w.event("again", "r2.2", 6)
	w.step("again", "r2.1", compensatable)
	w.row("customer", "again", "r2.1", Action, Accepted) // It was completed without the participant.
	w.done("again", "r2.1")
	w.succeed("again")
	return w
}

// awaitedKey is what the sagas of this world await.
var awaitedKey = &treatyv1.EventKey{Type: "acme.Happened", Subject: "things/1"}

// event makes a saga await an event, and take one that is in the store.
func (w *world) event(id, path string, position uint64) {
	w.record(id, &treatyv1.Record{Kind: &treatyv1.Record_WaitScheduled{WaitScheduled: &treatyv1.WaitScheduled{
		Wait: path, Events: []*treatyv1.EventKey{awaitedKey},
	}}})
	w.woken(id, path, position)
	w.Events = append(w.Events, &treatyv1.PublishedEvent{
		Id: "1", Source: "somebody", Type: awaitedKey.GetType(), Subject: awaitedKey.GetSubject(),
		Data: &anypb.Any{Value: []byte("it")}, Position: position,
	})
}

func (w *world) woken(id, path string, position uint64) {
	w.record(id, &treatyv1.Record{Kind: &treatyv1.Record_WaitEnded{WaitEnded: &treatyv1.WaitEnded{
		Wait: path, How: &treatyv1.WaitEnded_Event{Event: &treatyv1.EventArrived{Position: position, Source: "somebody",
			Id: "1", Data: []byte("it")}},
	}}})
}

func (w *world) started(id string) *treatyv1.SagaStarted {
	return w.saga(id).Records[0].GetRecord().GetSagaStarted()
}

// intent returns a step's intent.
func (w *world) intent(id, path string) *treatyv1.SagaRecord {
	i := slices.IndexFunc(w.saga(id).Records,
		func(r *treatyv1.SagaRecord) bool { return r.GetRecord().GetStepScheduled().GetStep() == path })
	return w.saga(id).Records[i]
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
		{"a failed scope isn't compensated in the journal", AllOrNothing, "isn't compensated",
			func(w *world) { w.forget("tried", "compensation_done") }},
		{"a failed scope isn't compensated at the participant", AllOrNothing, "wasn't compensated there",
			func(w *world) { w.drop("tried", "1.1.1", Compensation) }},
		{"no scope failed, and a step was compensated", AllOrNothing, "was compensated, but the saga succeeded",
			func(w *world) {
				w.forget("tried", "scope_compensation_decided")
			}},
		{"a scope is compensated after its saga continued", ReverseOrder, "of the failed scope 1 was compensated",
			func(w *world) {
				w.swap("tried", "step_scheduled 2", "compensation_done 1.1.1")
			}},
		{"a scope continues after it failed", NeverReversed, "after the decision to compensate its scope",
			func(w *world) { w.step("tried", "1.1.2", query) }},
		{"a scope is decided twice", NeverReversed, "was recorded twice", func(w *world) {
			w.record("tried", &treatyv1.Record{Kind: &treatyv1.Record_ScopeCompensationDecided{
				ScopeCompensationDecided: &treatyv1.ScopeCompensationDecided{Scope: "1"},
			}})
		}},
		{"a step is compensated without a decision", NeverReversed, "was compensated without a decision",
			func(w *world) { w.undo("tried", "2", "customer", Executed) }},
		{"a participant of a broadcast was left out", AllOrNothing, "wasn't done by b.B", func(w *world) {
			w.broadcast().Participants = append(w.broadcast().Participants, "b.B")
		}},
		{"a broadcast went to another participant", DurableBeforeSent, "no broadcast in the journal goes there",
			func(w *world) {
				w.intent("tried", "3.1.1").GetRecord().GetStepScheduled().Participant = "b.B"
			}},
		{"a broadcast wasn't recorded", DurableBeforeSent, "no broadcast in the journal goes there",
			func(w *world) { w.forget("tried", "broadcast_scheduled") }},
		{"a broadcast reached one participant twice", OneEffect, "reached card twice", func(w *world) {
			w.broadcast().Participants = append(w.broadcast().Participants, "b.B")
			w.row("card", "tried", "3.1.1", Action, Executed)
			w.row("card", "tried", "3.2.1", Action, Executed)
		}},
		{"a broadcast reached another participant than before", OneEffect, "other commands for it reached",
			func(w *world) {
				w.row("customer", "tried", "3.1.1", Action, Executed)
				w.record("won", &treatyv1.Record{Kind: &treatyv1.Record_BroadcastScheduled{
					BroadcastScheduled: &treatyv1.BroadcastScheduled{Broadcast: "9", Participants: []string{"a.A"}},
				}})
				w.row("card", "won", "9.1.1", Action, Executed)
			}},
		{"an event is taken twice", OneEffect, "was taken before", func(w *world) { w.event("tried", "5", 7) }},
		{"an event is taken again in a later round", OneEffect, "was taken before",
			func(w *world) { w.event("again", "r2.3", 4) }},
		{"an event that doesn't exist", DurableBeforeSent, "where the store has none",
			func(w *world) { w.Events = w.Events[1:] }},
		{"an event that was about something else", DurableBeforeSent, "awaited acme.Happened of things/1, but took",
			func(w *world) { w.Events[0].Subject = "things/2" }},
		{"an event of another kind", DurableBeforeSent, "awaited acme.Happened of things/1, but took",
			func(w *world) { w.Events[0].Type = "acme.Ended" }},
		{"an event by somebody else", DurableBeforeSent, "or other content",
			func(w *world) { w.Events[0].Source = "another" }},
		{"an event with other content", DurableBeforeSent, "or other content",
			func(w *world) { w.Events[0].Data.Value = nil }},
		{"a wait that wasn't recorded", DurableBeforeSent, "was never scheduled",
			func(w *world) { w.forget("tried", "wait_scheduled") }},
		{"a wait that never ended", AcknowledgedIsFinal, "it never ended",
			func(w *world) { w.forget("tried", "wait_ended") }},
		{"a wait that ended twice", OneEffect, "it ended twice", func(w *world) { w.woken("tried", "4", 7) }},
		{"a wait that is recorded twice", OneEffect, "it was scheduled twice",
			func(w *world) { w.event("tried", "4", 8) }},
		{"a child isn't compensated", AllOrNothing, "ended as SAGA_STATE_SUCCEEDED", func(w *world) {
			w.forget("child", "compensation_decided")
			w.forget("child", "saga_compensated")
		}},
		{"a child was never started", AllOrNothing, "was never started", func(w *world) {
			w.started("child").Parent = nil
		}},
		{"a child exists, but its parent's step isn't done", AllOrNothing, "is refused, but its child saga",
			func(w *world) {
				w.forget("child", "compensation_decided")
				w.forget("child", "saga_compensated")
				for _, r := range w.saga("beside").Records {
					if r.GetRecord().GetStepDone().GetStep() == "1.2.1" {
						r.Record = &treatyv1.Record{Kind: &treatyv1.Record_StepRefused{
							StepRefused: &treatyv1.StepRefused{Step: "1.2.1"},
						}}
					}
				}
				w.saga("beside").Records = slices.DeleteFunc(w.saga("beside").Records,
					func(r *treatyv1.SagaRecord) bool {
						return r.GetRecord().GetCompensationScheduled().GetStep() == "1.2.1" ||
							r.GetRecord().GetCompensationDone().GetStep() == "1.2.1"
					})
			}},
		{"a child is undone, and its parent's step is done", AllOrNothing, "is done, but its child saga",
			func(w *world) {
				w.forget("beside", "compensation_scheduled")
				w.forget("beside", "compensation_done")
			}},
		{"one step, two children", OneEffect, "is both the saga", func(w *world) {
			w.begin("twin")
			w.started("twin").Parent = &treatyv1.Parent{CommandId: "sagas/beside/steps/1.2.1"}
		}},
		{"a child of no saga", DurableBeforeSent, "there is no such saga",
			func(w *world) { w.started("child").Parent.CommandId = "sagas/nobody/steps/1" }},
		{"a child of no step", DurableBeforeSent, "the journal has no such step",
			func(w *world) { w.started("child").Parent.CommandId = "sagas/beside/steps/7" }},
		{"a child that another step is", DurableBeforeSent, "but its step sagas/beside/steps/1.1.1 calls",
			func(w *world) { w.started("child").Parent.CommandId = "sagas/beside/steps/1.1.1" }},
		{"a child that began before its parent's step", DurableBeforeSent, "was started before its step",
			func(w *world) {
				w.intent("beside", "1.2.1").Time = timestamppb.New(w.clock)
			}},
		{"a child that is compensated before its parent decides to", DurableBeforeSent,
			"before the parent recorded that it would compensate",
			func(w *world) {
				for _, r := range w.saga("beside").Records {
					if r.GetRecord().GetCompensationScheduled().GetStep() == "1.2.1" {
						r.Time = timestamppb.New(w.clock)
					}
				}
			}},
		{"a child acts after it succeeded", NothingAfterTheEnd, "took effect at card", func(w *world) {
			w.edit("child", "1", Action, func(r *Row) { r.Time = w.clock.Add(-time.Millisecond) })
		}},
		{"a saga without a parent is undone after success", NothingAfterTheEnd, "after the saga's end", func(w *world) {
			w.record("won", &treatyv1.Record{Kind: &treatyv1.Record_CompensationDecided{
				CompensationDecided: &treatyv1.CompensationDecided{
					Cause: treatyv1.CompensationCause_COMPENSATION_CAUSE_PARENT,
				},
			}})
		}},
		{"an accepted command isn't compensated", AllOrNothing, "wasn't compensated there", func(w *world) {
			w.edit("lost", "1", Action, func(r *Row) { r.Verdict = Accepted })
			w.drop("lost", "1", Compensation)
		}},
		{"a command is accepted after its undo", NoActionAfterCompensation, "after its compensation", func(w *world) {
			w.edit("late", "1", Action, func(r *Row) { r.Verdict = Accepted })
		}},
		{"a command is accepted after the end", NothingAfterTheEnd, "after the saga's end", func(w *world) {
			w.edit("won", "3", Action, func(r *Row) { r.Verdict, r.Time = Accepted, w.clock })
		}},
		{"the undo of what was accepted did nothing", NullCompensationIsNoOp, "its compensation did nothing",
			func(w *world) {
				w.edit("lost", "1", Action, func(r *Row) { r.Verdict = Accepted })
				w.edit("lost", "1", Compensation, func(r *Row) { r.Verdict = NullCompensated })
			}},
		{"a step of this round isn't done", AllOrNothing, "isn't done",
			func(w *world) { w.forget("again", "step_done") }},
		{"a command of a round that hasn't begun", DurableBeforeSent, "no such step",
			func(w *world) { w.row("card", "again", "r3.1", Action, Executed) }},
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

func (w *world) broadcast() *treatyv1.BroadcastScheduled {
	for _, r := range w.saga("tried").Records {
		if b := r.GetRecord().GetBroadcastScheduled(); b != nil {
			return b
		}
	}
	return nil
}

// TestEventsThatWerentGathered checks that sagas may take events if the facts contain none.
func TestEventsThatWerentGathered(t *testing.T) {
	w := language()
	w.Events = nil
	if report := Check(&w.Facts); len(report.Violations) > 0 {
		t.Errorf("violations:\n%s", report)
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
