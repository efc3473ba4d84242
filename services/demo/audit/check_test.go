package audit

import (
	"strings"
	"testing"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

func TestNothingIsFoundWhereAllIsWell(t *testing.T) {
	report := Check(&good().Facts)
	if len(report.Violations) > 0 {
		t.Fatalf("violations in good facts:\n%s", report)
	}
	want := Counts{
		Acknowledged: 3, Told: 3, Sagas: 3, Succeeded: 1, Compensated: 2, Cancelled: 2, Records: 28, Commands: 9,
		Executed: 6, Undone: 2, Refused: 1, NullCompensated: 1, RefusedLate: 1, Unknown: 2, Effects: 3,
	}
	if report.Counts != want {
		t.Errorf("counts\n got %+v\nwant %+v", report.Counts, want)
	}
}

func TestWhatWasThereBeforeIsNoEffect(t *testing.T) {
	f := good()
	f.Given = []Effect{{Service: "customer", Resource: "customers/old"}}
	f.Effects = append(f.Effects, f.Given...)
	if report := Check(&f.Facts); len(report.Violations) > 0 {
		t.Errorf("violations:\n%s", report)
	}
}

// TestPlantedViolationsAreFound breaks each promise in each way that the audit can detect. An audit that finds nothing
// must be able to find something.
func TestPlantedViolationsAreFound(t *testing.T) {
	for _, test := range []struct {
		name  string
		wants Invariant
		says  string
		plant func(*testFacts)
	}{
		{"a saga is gone", AcknowledgedIsFinal, "doesn't exist", func(f *testFacts) { f.Sagas = f.Sagas[1:] }},
		{"a saga isn't final", AcknowledgedIsFinal, "isn't final", func(f *testFacts) {
			f.forget("won", "saga_succeeded")
			f.saga("won").View.State = treatyv1.SagaState_SAGA_STATE_RUNNING
		}},
		{"a saga is shown as open", AcknowledgedIsFinal, "is shown as",
			func(f *testFacts) { f.saga("won").View.State = treatyv1.SagaState_SAGA_STATE_RUNNING }},
		{"the client received another state", AcknowledgedIsFinal, "ended as",
			func(f *testFacts) { f.start("won").Told = treatyv1.SagaState_SAGA_STATE_COMPENSATED }},
		{"another request", AcknowledgedIsFinal, "was acknowledged as",
			func(f *testFacts) { f.start("won").RequestID = "another" }},
		{"one request id, two sagas", AcknowledgedIsFinal, "has the same request id", func(f *testFacts) {
			f.saga("won").Records[0].GetRecord().GetSagaStarted().RequestId = "request-lost"
		}},
		{"the saga is listed twice", AcknowledgedIsFinal, "exists twice",
			func(f *testFacts) { f.Sagas = append(f.Sagas, f.Sagas[0]) }},
		{"the start isn't the first record", AcknowledgedIsFinal, "doesn't begin",
			func(f *testFacts) { f.saga("won").Records = f.saga("won").Records[1:] }},

		{"done, but the participant doesn't know it", AllOrNothing, "never received it",
			func(f *testFacts) { f.drop("won", "3", Action) }},
		{"done, but the participant refused it", AllOrNothing, "has it as refused", func(f *testFacts) {
			f.edit("won", "1", Action, func(r *Row) { r.Verdict = Refused })
		}},
		{"refused, but the participant executed it", AllOrNothing, "refused in the journal", func(f *testFacts) {
			f.edit("lost", "3", Action, func(r *Row) { r.Verdict = Executed })
		}},
		{"refused, but the participant accepted it and continues", AllOrNothing, "refused in the journal",
			func(f *testFacts) {
				f.edit("lost", "3", Action, func(r *Row) { r.Verdict = Accepted })
			}},
		{"compensated, and a step isn't compensated in the journal", AllOrNothing, "isn't compensated",
			func(f *testFacts) { f.forget("lost", "compensation_done") }},
		{"compensated, and a step isn't compensated at its participant", AllOrNothing, "wasn't compensated there",
			func(f *testFacts) { f.drop("lost", "1", Compensation) }},
		{"succeeded with a step that is half done", AllOrNothing, "isn't done",
			func(f *testFacts) { f.forget("won", "step_done") }},
		{"succeeded, and a step was compensated", AllOrNothing, "was compensated",
			func(f *testFacts) { f.row("customer", "won", "1", Compensation, Executed) }},
		{"compensated past the pivot", AllOrNothing, "can't be compensated", func(f *testFacts) {
			f.step("lost", "9", pivot)
			f.done("lost", "9")
		}},
		{"the effect of a success is missing", AllOrNothing, "doesn't exist",
			func(f *testFacts) { f.Effects = f.Effects[1:] }},
		{"the effect of a success is undone", AllOrNothing, "doesn't exist",
			func(f *testFacts) { f.Effects[0].Undone = true }},
		{"what was compensated still exists", AllOrNothing, "still exists",
			func(f *testFacts) { f.Effects[2].Undone = false }},

		{"a command is in the ledgers twice", OneEffect, "is in two ledgers",
			func(f *testFacts) { f.row("card", "won", "1", Action, Executed) }},
		{"an effect twice", OneEffect, "more than once",
			func(f *testFacts) { f.Effects = append(f.Effects, f.Effects[0]) }},
		{"an effect that no command made", OneEffect, "no command", func(f *testFacts) {
			f.Effects = append(f.Effects, Effect{Service: "card", Resource: "cards/second"})
		}},
		{"two commands with one effect", OneEffect, "is the effect of", func(f *testFacts) {
			f.edit("lost", "1", Action, func(r *Row) { r.Effects = []string{"customers/won@2"} })
		}},
		{"a step is scheduled twice", OneEffect, "scheduled twice",
			func(f *testFacts) { f.step("won", "1", compensatable) }},
		{"a step ends twice", OneEffect, "ended twice", func(f *testFacts) { f.done("won", "1") }},
		{"a ledger out of order", OneEffect, "isn't in order", func(f *testFacts) {
			f.edit("lost", "1", Action, func(r *Row) { r.Sequence = 0 })
		}},

		{"compensated in the order of the steps", ReverseOrder, "was scheduled before", func(f *testFacts) {
			f.swap("lost", "compensation_scheduled 1", "compensation_scheduled 2")
			f.swap("lost", "compensation_done 1", "compensation_done 2")
		}},
		{"compensated in the order of the steps at the participants", ReverseOrder, "was compensated at",
			func(f *testFacts) {
				f.edit("lost", "2", Compensation, func(r *Row) { r.Time = r.Time.Add(time.Hour) })
			}},
		{"compensated in parallel", ReverseOrder, "was scheduled before",
			func(f *testFacts) { f.swap("lost", "compensation_scheduled 1", "compensation_done 2") }},

		{"an action takes effect after its undo", NoActionAfterCompensation, "after its compensation",
			func(f *testFacts) {
				f.edit("late", "1", Action, func(r *Row) { r.Verdict = Executed })
			}},
		{"an accepted action is completed after its undo", NoActionAfterCompensation, "after its compensation",
			func(f *testFacts) {
				undo, at := f.find("lost", "1", Compensation)
				f.edit("lost", "1", Action, func(r *Row) { r.Time = undo.Rows[at].Time.Add(time.Microsecond) })
			}},
		{"refused as late without a compensation before it", NoActionAfterCompensation,
			"no compensation came before it",
			func(f *testFacts) {
				f.edit("won", "1", Action, func(r *Row) { r.Verdict = RefusedLate })
			}},

		{"the undo of nothing ran", NullCompensationIsNoOp, "never took effect", func(f *testFacts) {
			f.edit("late", "1", Compensation, func(r *Row) { r.Verdict = Executed })
		}},
		{"the undo of something did nothing", NullCompensationIsNoOp, "its compensation did nothing",
			func(f *testFacts) {
				f.edit("lost", "1", Compensation, func(r *Row) { r.Verdict = NullCompensated })
			}},
		{"a null compensation wasn't kept", NullCompensationIsNoOp, "but not in its participant's ledger",
			func(f *testFacts) { f.drop("late", "1", Compensation) }},
		{"an undo was refused", NullCompensationIsNoOp, "has the verdict refused", func(f *testFacts) {
			f.edit("lost", "1", Compensation, func(r *Row) { r.Verdict = Refused })
		}},

		{"an effect after the end", NothingAfterTheEnd, "after the saga's end", func(f *testFacts) {
			f.edit("won", "3", Action, func(r *Row) { r.Time = f.clock })
		}},
		{"a record after the end", NothingAfterTheEnd, "after the saga's end", func(f *testFacts) { f.decide("won") }},

		{"a command of no saga", DurableBeforeSent, "no such saga",
			func(f *testFacts) { f.row("card", "nobody", "1", Action, Executed) }},
		{"a command of no step", DurableBeforeSent, "no such step",
			func(f *testFacts) { f.row("card", "won", "7", Action, Refused) }},
		{"an action without an intent", DurableBeforeSent, "its intent was never recorded",
			func(f *testFacts) { f.forget("won", "step_scheduled") }},
		{"an undo without an intent", DurableBeforeSent, "without an intent",
			func(f *testFacts) { f.forget("lost", "compensation_scheduled") }},
		{"sent before it was recorded", DurableBeforeSent, "before its intent was recorded", func(f *testFacts) {
			f.edit("won", "1", Action, func(r *Row) { r.Time = r.Time.Add(-time.Hour) })
		}},

		{"forward after the decision", NeverReversed, "scheduled after the decision", func(f *testFacts) {
			f.swap("lost", "compensation_scheduled 2", "step_refused 3")
			f.step("lost", "4", query)
		}},
		{"compensated without a decision", NeverReversed, "without a decision",
			func(f *testFacts) { f.forget("lost", "compensation_decided") }},
		{"decided twice", NeverReversed, "was recorded twice", func(f *testFacts) { f.decide("lost") }},
		{"succeeded after the decision", NeverReversed, "succeeded after", func(f *testFacts) {
			f.forget("lost", "saga_compensated")
			f.succeed("lost")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := good()
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

func TestReportNamesWhatItFound(t *testing.T) {
	f := good()
	f.drop("lost", "1", Compensation)
	text := Check(&f.Facts).String()
	for _, want := range []string{
		"acknowledged starts    3 (3 clients learned the end)",
		"sagas                  3: 1 succeeded, 2 compensated (2 of them cancelled)",
		"sagas/lost/steps/1: took effect at customer and wasn't compensated there",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
}
