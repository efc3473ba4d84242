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

// language returns facts with the parts of the saga language: a saga "tried" that succeeded although one of its
// scopes failed, a saga "beside" whose parallel steps were compensated, with the saga "child" as one of them, a
// broadcast, an awaited event, and a saga "again" in its second round.
func language() *testFacts {
	f := good()
	f.begin("tried")
	f.step("tried", "1.1.1", compensatable)
	f.row("customer", "tried", "1.1.1", Action, Executed)
	f.done("tried", "1.1.1")
	f.record("tried", &treatyv1.Record{Kind: &treatyv1.Record_ScopeCompensationDecided{
		ScopeCompensationDecided: &treatyv1.ScopeCompensationDecided{Scope: "1"},
	}})
	f.undo("tried", "1.1.1", "customer", Executed)
	f.step("tried", "2", compensatable)
	f.row("customer", "tried", "2", Action, Executed)
	f.done("tried", "2")
	f.record("tried", &treatyv1.Record{Kind: &treatyv1.Record_BroadcastScheduled{
		BroadcastScheduled: &treatyv1.BroadcastScheduled{Broadcast: "3", Participants: []string{"a.A"}},
	}})
	f.record("tried", &treatyv1.Record{Kind: &treatyv1.Record_StepScheduled{
		StepScheduled: &treatyv1.StepScheduled{Step: "3.1.1", Kind: query, Participant: "a.A"},
	}})
	f.done("tried", "3.1.1")
	f.event("tried", "4", 7)
	f.succeed("tried")

	f.begin("beside")
	f.step("beside", "1.1.1", compensatable)
	f.row("customer", "beside", "1.1.1", Action, Executed)
	f.done("beside", "1.1.1")
	f.record("beside", &treatyv1.Record{Kind: &treatyv1.Record_StepScheduled{StepScheduled: &treatyv1.StepScheduled{
		Step: "1.2.1", Method: "acme.Sagas/Child", Kind: compensatable,
		Compensation: &treatyv1.CompensationPlan{Method: "Undo"},
	}}})
	f.begin("child")
	f.started("child").Parent = &treatyv1.Parent{CommandId: "sagas/beside/steps/1.2.1", Local: true}
	f.started("child").Definition = "acme.Sagas/Child"
	f.start("child").Definition = "acme.Sagas/Child"
	f.step("child", "1", compensatable)
	f.row("card", "child", "1", Action, Executed)
	f.done("child", "1")
	f.succeed("child")
	f.done("beside", "1.2.1")
	f.decide("beside")
	f.undo("beside", "1.1.1", "customer", Executed)
	f.record("beside", &treatyv1.Record{Kind: &treatyv1.Record_CompensationScheduled{
		CompensationScheduled: &treatyv1.CompensationScheduled{Step: "1.2.1"},
	}})
	f.record("child", &treatyv1.Record{Kind: &treatyv1.Record_CompensationDecided{
		CompensationDecided: &treatyv1.CompensationDecided{Cause: treatyv1.CompensationCause_COMPENSATION_CAUSE_PARENT},
	}})
	f.undo("child", "1", "card", Executed)
	f.compensated("child")
	f.record("beside", &treatyv1.Record{Kind: &treatyv1.Record_CompensationDone{
		CompensationDone: &treatyv1.CompensationDone{Step: "1.2.1"},
	}})
	f.compensated("beside")

	f.begin("again")
	f.row("customer", "again", "1", Action, Executed)
	f.saga("again").Records[0].Record = &treatyv1.Record{Kind: &treatyv1.Record_SagaRestarted{
		SagaRestarted: &treatyv1.SagaRestarted{
			Started: f.started("again"), Round: 2, EventsTaken: []*treatyv1.EventTaken{{Key: awaitedKey, Position: 5}},
		},
	}}
	f.event("again", "r2.2", 6)
	f.step("again", "r2.1", compensatable)
	f.row("customer", "again", "r2.1", Action, Accepted) // It was completed without the participant.
	f.done("again", "r2.1")
	f.succeed("again")
	return f
}

// awaitedKey is what the sagas await.
var awaitedKey = &treatyv1.EventKey{Type: "acme.Happened", Subject: "things/1"}

// event makes a saga await an event, and take one that is in the store.
func (f *testFacts) event(id, path string, position uint64) {
	f.record(id, &treatyv1.Record{Kind: &treatyv1.Record_WaitScheduled{WaitScheduled: &treatyv1.WaitScheduled{
		Wait: path, Events: []*treatyv1.EventKey{awaitedKey},
	}}})
	f.woken(id, path, position)
	f.Events = append(f.Events, &treatyv1.PublishedEvent{
		Id: "1", Source: "somebody", Type: awaitedKey.GetType(), Subject: awaitedKey.GetSubject(),
		Data: &anypb.Any{Value: []byte("it")}, Position: position,
	})
}

func (f *testFacts) woken(id, path string, position uint64) {
	f.record(id, &treatyv1.Record{Kind: &treatyv1.Record_WaitEnded{WaitEnded: &treatyv1.WaitEnded{
		Wait: path, How: &treatyv1.WaitEnded_Event{Event: &treatyv1.EventArrived{Position: position, Source: "somebody",
			Id: "1", Data: []byte("it")}},
	}}})
}

func (f *testFacts) started(id string) *treatyv1.SagaStarted {
	return f.saga(id).Records[0].GetRecord().GetSagaStarted()
}

// intent returns a step's intent.
func (f *testFacts) intent(id, path string) *treatyv1.SagaRecord {
	i := slices.IndexFunc(f.saga(id).Records,
		func(r *treatyv1.SagaRecord) bool { return r.GetRecord().GetStepScheduled().GetStep() == path })
	return f.saga(id).Records[i]
}

func TestTheLanguageIsUnderstood(t *testing.T) {
	if report := Check(&language().Facts); len(report.Violations) > 0 {
		t.Fatalf("violations in good facts:\n%s", report)
	}
}

func TestPlantedViolationsOfTheLanguageAreFound(t *testing.T) {
	for _, test := range []struct {
		name  string
		wants Invariant
		says  string
		plant func(*testFacts)
	}{
		{"a failed scope isn't compensated in the journal", AllOrNothing, "isn't compensated",
			func(f *testFacts) { f.forget("tried", "compensation_done") }},
		{"a failed scope isn't compensated at the participant", AllOrNothing, "wasn't compensated there",
			func(f *testFacts) { f.drop("tried", "1.1.1", Compensation) }},
		{"no scope failed, and a step was compensated", AllOrNothing, "was compensated, but the saga succeeded",
			func(f *testFacts) {
				f.forget("tried", "scope_compensation_decided")
			}},
		{"a scope is compensated after its saga continued", ReverseOrder, "of the failed scope 1 was compensated",
			func(f *testFacts) {
				f.swap("tried", "step_scheduled 2", "compensation_done 1.1.1")
			}},
		{"a scope continues after it failed", NeverReversed, "after the decision to compensate its scope",
			func(f *testFacts) { f.step("tried", "1.1.2", query) }},
		{"a scope is decided twice", NeverReversed, "was recorded twice", func(f *testFacts) {
			f.record("tried", &treatyv1.Record{Kind: &treatyv1.Record_ScopeCompensationDecided{
				ScopeCompensationDecided: &treatyv1.ScopeCompensationDecided{Scope: "1"},
			}})
		}},
		{"a step is compensated without a decision", NeverReversed, "was compensated without a decision",
			func(f *testFacts) { f.undo("tried", "2", "customer", Executed) }},
		{"a participant of a broadcast was left out", AllOrNothing, "wasn't done by b.B", func(f *testFacts) {
			f.broadcast().Participants = append(f.broadcast().Participants, "b.B")
		}},
		{"a broadcast went to another participant", DurableBeforeSent, "no broadcast in the journal goes there",
			func(f *testFacts) {
				f.intent("tried", "3.1.1").GetRecord().GetStepScheduled().Participant = "b.B"
			}},
		{"a broadcast wasn't recorded", DurableBeforeSent, "no broadcast in the journal goes there",
			func(f *testFacts) { f.forget("tried", "broadcast_scheduled") }},
		{"a broadcast reached one participant twice", OneEffect, "reached card twice", func(f *testFacts) {
			f.broadcast().Participants = append(f.broadcast().Participants, "b.B")
			f.row("card", "tried", "3.1.1", Action, Executed)
			f.row("card", "tried", "3.2.1", Action, Executed)
		}},
		{"a broadcast reached another participant than before", OneEffect, "other commands for it reached",
			func(f *testFacts) {
				f.row("customer", "tried", "3.1.1", Action, Executed)
				f.record("won", &treatyv1.Record{Kind: &treatyv1.Record_BroadcastScheduled{
					BroadcastScheduled: &treatyv1.BroadcastScheduled{Broadcast: "9", Participants: []string{"a.A"}},
				}})
				f.row("card", "won", "9.1.1", Action, Executed)
			}},
		{"an event is taken twice", OneEffect, "was taken before", func(f *testFacts) { f.event("tried", "5", 7) }},
		{"an event is taken again in a later round", OneEffect, "was taken before",
			func(f *testFacts) { f.event("again", "r2.3", 4) }},
		{"an event that doesn't exist", DurableBeforeSent, "where the store has none",
			func(f *testFacts) { f.Events = f.Events[1:] }},
		{"an event that was about something else", DurableBeforeSent, "awaited acme.Happened of things/1, but took",
			func(f *testFacts) { f.Events[0].Subject = "things/2" }},
		{"an event of another kind", DurableBeforeSent, "awaited acme.Happened of things/1, but took",
			func(f *testFacts) { f.Events[0].Type = "acme.Ended" }},
		{"an event by somebody else", DurableBeforeSent, "or other content",
			func(f *testFacts) { f.Events[0].Source = "another" }},
		{"an event with other content", DurableBeforeSent, "or other content",
			func(f *testFacts) { f.Events[0].Data.Value = nil }},
		{"a wait that wasn't recorded", DurableBeforeSent, "was never scheduled",
			func(f *testFacts) { f.forget("tried", "wait_scheduled") }},
		{"a wait that never ended", AcknowledgedIsFinal, "it never ended",
			func(f *testFacts) { f.forget("tried", "wait_ended") }},
		{"a wait that ended twice", OneEffect, "it ended twice", func(f *testFacts) { f.woken("tried", "4", 7) }},
		{"a wait that is recorded twice", OneEffect, "it was scheduled twice",
			func(f *testFacts) { f.event("tried", "4", 8) }},
		{"a child isn't compensated", AllOrNothing, "ended as SAGA_STATE_SUCCEEDED", func(f *testFacts) {
			f.forget("child", "compensation_decided")
			f.forget("child", "saga_compensated")
		}},
		{"a child was never started", AllOrNothing, "was never started", func(f *testFacts) {
			f.started("child").Parent = nil
		}},
		{"a child exists, but its parent's step isn't done", AllOrNothing, "is refused, but its child saga",
			func(f *testFacts) {
				f.forget("child", "compensation_decided")
				f.forget("child", "saga_compensated")
				for _, r := range f.saga("beside").Records {
					if r.GetRecord().GetStepDone().GetStep() == "1.2.1" {
						r.Record = &treatyv1.Record{Kind: &treatyv1.Record_StepRefused{
							StepRefused: &treatyv1.StepRefused{Step: "1.2.1"},
						}}
					}
				}
				f.saga("beside").Records = slices.DeleteFunc(f.saga("beside").Records,
					func(r *treatyv1.SagaRecord) bool {
						return r.GetRecord().GetCompensationScheduled().GetStep() == "1.2.1" ||
							r.GetRecord().GetCompensationDone().GetStep() == "1.2.1"
					})
			}},
		{"a child is undone, and its parent's step is done", AllOrNothing, "is done, but its child saga",
			func(f *testFacts) {
				f.forget("beside", "compensation_scheduled")
				f.forget("beside", "compensation_done")
			}},
		{"one step, two children", OneEffect, "is both the saga", func(f *testFacts) {
			f.begin("twin")
			f.started("twin").Parent = &treatyv1.Parent{CommandId: "sagas/beside/steps/1.2.1"}
		}},
		{"a child of no saga", DurableBeforeSent, "there is no such saga",
			func(f *testFacts) { f.started("child").Parent.CommandId = "sagas/nobody/steps/1" }},
		{"a child of no step", DurableBeforeSent, "the journal has no such step",
			func(f *testFacts) { f.started("child").Parent.CommandId = "sagas/beside/steps/7" }},
		{"a child that another step is", DurableBeforeSent, "but its step sagas/beside/steps/1.1.1 calls",
			func(f *testFacts) { f.started("child").Parent.CommandId = "sagas/beside/steps/1.1.1" }},
		{"a child that began before its parent's step", DurableBeforeSent, "was started before its step",
			func(f *testFacts) {
				f.intent("beside", "1.2.1").Time = timestamppb.New(f.clock)
			}},
		{"a child that is compensated before its parent decides to", DurableBeforeSent,
			"before the parent recorded that it would compensate",
			func(f *testFacts) {
				for _, r := range f.saga("beside").Records {
					if r.GetRecord().GetCompensationScheduled().GetStep() == "1.2.1" {
						r.Time = timestamppb.New(f.clock)
					}
				}
			}},
		{"a child acts after it succeeded", NothingAfterTheEnd, "took effect at card", func(f *testFacts) {
			f.edit("child", "1", Action, func(r *Row) { r.Time = f.clock.Add(-time.Millisecond) })
		}},
		{"a saga without a parent is undone after success", NothingAfterTheEnd, "after the saga's end",
			func(f *testFacts) {
				f.record("won", &treatyv1.Record{Kind: &treatyv1.Record_CompensationDecided{
					CompensationDecided: &treatyv1.CompensationDecided{
						Cause: treatyv1.CompensationCause_COMPENSATION_CAUSE_PARENT,
					},
				}})
			}},
		{"an accepted command isn't compensated", AllOrNothing, "wasn't compensated there", func(f *testFacts) {
			f.edit("lost", "1", Action, func(r *Row) { r.Verdict = Accepted })
			f.drop("lost", "1", Compensation)
		}},
		{"a command is accepted after its undo", NoActionAfterCompensation, "after its compensation",
			func(f *testFacts) {
				f.edit("late", "1", Action, func(r *Row) { r.Verdict = Accepted })
			}},
		{"a command is accepted after the end", NothingAfterTheEnd, "after the saga's end", func(f *testFacts) {
			f.edit("won", "3", Action, func(r *Row) { r.Verdict, r.Time = Accepted, f.clock })
		}},
		{"the undo of what was accepted did nothing", NullCompensationIsNoOp, "its compensation did nothing",
			func(f *testFacts) {
				f.edit("lost", "1", Action, func(r *Row) { r.Verdict = Accepted })
				f.edit("lost", "1", Compensation, func(r *Row) { r.Verdict = NullCompensated })
			}},
		{"a step of this round isn't done", AllOrNothing, "isn't done",
			func(f *testFacts) { f.forget("again", "step_done") }},
		{"a command of a round that hasn't begun", DurableBeforeSent, "no such step",
			func(f *testFacts) { f.row("card", "again", "r3.1", Action, Executed) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := language()
			test.plant(f)
			report := Check(&f.Facts)
			for _, v := range report.Of(test.wants) {
				if strings.Contains(v.Text, test.says) {
					return
				}
			}
			t.Errorf("no violation of invariant %d that says %q; found:\n%s", test.wants, test.says, report)
		})
	}
}

func (f *testFacts) broadcast() *treatyv1.BroadcastScheduled {
	for _, r := range f.saga("tried").Records {
		if b := r.GetRecord().GetBroadcastScheduled(); b != nil {
			return b
		}
	}
	return nil
}

// TestEventsThatWerentGathered checks that sagas may take events if the facts contain none.
func TestEventsThatWerentGathered(t *testing.T) {
	f := language()
	f.Events = nil
	if report := Check(&f.Facts); len(report.Violations) > 0 {
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
