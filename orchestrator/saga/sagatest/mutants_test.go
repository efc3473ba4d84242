package sagatest

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	"github.com/treatyhq/treaty/gen/acme/card/v1/cardv1saga"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// moveThenIssue moves two customers, waits for an hour, and issues a card and another one. Its steps are 1, 2, 4 and 5.
func moveThenIssue(ctx saga.Context, _ *request) (*agreed, error) {
	for _, customer := range []string{"customers/ada", "customers/ben"} {
		if err := changeIn(ctx, customer, "Delft"); err != nil {
			return nil, err
		}
	}
	saga.Sleep(ctx, time.Hour)
	if _, err := cardv1saga.IssueCard(ctx, &cardv1.IssueCardRequest{}); err != nil {
		return nil, err
	}
	_, err := cardv1saga.IssueExtraCard(ctx, &cardv1.IssueExtraCardRequest{})
	return new(agreed), err
}

// send makes an attempt.
type send func(*engine.Attempt) engine.Answer

// sendMutant makes an attempt wrongly, with next.
type sendMutant func(attempt *engine.Attempt, next send) engine.Answer

// mutantDispatcher is a dispatcher with a mistake. It makes one attempt at a time.
type mutantDispatcher struct {
	engine.Dispatcher

	mu     sync.Mutex
	mutant sendMutant
}

// Attempt makes an attempt wrongly.
func (d *mutantDispatcher) Attempt(ctx context.Context, attempt *engine.Attempt) engine.Answer {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mutant(attempt, func(attempt *engine.Attempt) engine.Answer { return d.Dispatcher.Attempt(ctx, attempt) })
}

// turnMutant returns the entries that are stored in the place of a saga's turn.
type turnMutant func(entry *journal.Entry, turn *treatyv1.Turn) []*journal.Entry

// mutantStore is a store with a mistake.
type mutantStore struct {
	journal.Store

	mutant turnMutant
}

// Append stores other entries than it was given.
func (s *mutantStore) Append(ctx context.Context, group []*journal.Entry) error {
	var stored []*journal.Entry
	for _, entry := range group {
		turn := new(treatyv1.Turn)
		if entry.Turn == 0 || proto.Unmarshal(entry.Data, turn) != nil {
			stored = append(stored, entry)
			continue
		}
		stored = append(stored, s.mutant(entry, turn)...)
	}
	if len(stored) == 0 {
		return nil
	}
	return s.Store.Append(ctx, stored)
}

// mutant is a mistake of the machine or the engine, as it looks to participants or in the store.
type mutant struct {
	name string
	send func(*contract.Catalog, engine.Dispatcher) sendMutant
	turn func() turnMutant
	want string // what the exploration says
}

func (m mutant) wrapping(catalog *contract.Catalog) (w wrapping) {
	if m.send != nil {
		w.dispatcher = func(d engine.Dispatcher) engine.Dispatcher {
			return &mutantDispatcher{Dispatcher: d, mutant: m.send(catalog, d)}
		}
	}
	if m.turn != nil {
		w.store = func(s journal.Store) journal.Store { return &mutantStore{Store: s, mutant: m.turn()} }
	}
	return w
}

// stateless makes a mutant of a function that remembers nothing.
func stateless(mutant sendMutant) func(*contract.Catalog, engine.Dispatcher) sendMutant {
	return func(*contract.Catalog, engine.Dispatcher) sendMutant { return mutant }
}

// records makes a mutant that changes each stored turn.
func records(change func(*treatyv1.Turn)) func() turnMutant {
	return func() turnMutant {
		return func(entry *journal.Entry, turn *treatyv1.Turn) []*journal.Entry {
			change(turn)
			data, err := proto.Marshal(turn)
			if err != nil {
				return nil
			}
			entry.Data = data
			return []*journal.Entry{entry}
		}
	}
}

// has reports whether a turn has a record for which is returns true.
func has(turn *treatyv1.Turn, is func(*treatyv1.Record) bool) bool {
	return slices.ContainsFunc(turn.GetRecords(), is)
}

func succeeds(record *treatyv1.Record) bool { return record.GetSagaSucceeded() != nil }

func undoes(attempt *engine.Attempt) bool { return attempt.Direction == engine.Compensation }

// at returns a copy of an attempt for another step.
func at(attempt *engine.Attempt, step string) *engine.Attempt {
	other := *attempt
	other.Step = step
	return &other
}

var (
	isDone    = engine.Answer{Outcome: treatyv1.Outcome_OUTCOME_DONE, Reply: []byte{}}
	isUnknown = engine.Answer{Outcome: treatyv1.Outcome_OUTCOME_UNKNOWN,
		Failure: &treatyv1.Failure{Code: int32(codes.Unavailable)}}
	isRefused = engine.Answer{Outcome: treatyv1.Outcome_OUTCOME_REFUSED, Evidence: engine.Settled,
		Failure: &treatyv1.Failure{Code: int32(codes.FailedPrecondition)}}
)

// takes makes a mutant that takes one outcome of actions for another.
func takes(outcome treatyv1.Outcome, instead engine.Answer) func(*contract.Catalog, engine.Dispatcher) sendMutant {
	return stateless(func(attempt *engine.Attempt, next send) engine.Answer {
		answer := next(attempt)
		if undoes(attempt) || answer.Outcome != outcome {
			return answer
		}
		return instead
	})
}

func mutants() []mutant {
	const restore = customerv1.CustomerService_RestoreAddress_FullMethodName
	return []mutant{
		{
			name: "steps are undone in the wrong order",
			send: func(*contract.Catalog, engine.Dispatcher) sendMutant {
				var newest *engine.Attempt
				return func(attempt *engine.Attempt, next send) engine.Answer {
					switch {
					case undoes(attempt) && attempt.Step == "2":
						newest = attempt
						return isDone
					case undoes(attempt) && newest != nil:
						defer next(newest)
					}
					return next(attempt)
				}
			},
			want: "was undone before step 2",
		},
		{
			name: "a step whose outcome is unknown isn't undone",
			send: func(*contract.Catalog, engine.Dispatcher) sendMutant {
				unknown := make(map[string]bool)
				return func(attempt *engine.Attempt, next send) engine.Answer {
					if undoes(attempt) && unknown[attempt.Step] {
						return isDone
					}
					answer := next(attempt)
					unknown[attempt.Step] = answer.Outcome == treatyv1.Outcome_OUTCOME_UNKNOWN
					return answer
				}
			},
			want: "is COMPENSATED in the journal, but its effect stands at the participant",
		},
		{
			name: "a command has a new id when it is sent again",
			send: stateless(func(attempt *engine.Attempt, next send) engine.Answer {
				if attempt.Number > 1 {
					attempt = at(attempt, attempt.Step+"0")
				}
				return next(attempt)
			}),
			want: "was sent, but the journal has no such step",
		},
		{
			name: "a command has a new id after a restart",
			send: stateless(func(attempt *engine.Attempt, next send) engine.Answer {
				if attempt.Epoch > 1 {
					attempt = at(attempt, attempt.Step+"0")
				}
				return next(attempt)
			}),
			want: "was sent, but the journal has no such step",
		},
		{
			name: "a timer ends half an hour early",
			turn: records(func(turn *treatyv1.Turn) {
				for _, record := range turn.GetRecords() {
					if record.GetWaitEnded().GetDue() != nil {
						turn.Time = timestamppb.New(turn.GetTime().AsTime().Add(-30 * time.Minute))
					}
				}
			}),
			want: "before it was due",
		},
		{
			name: "a step is undone after the pivot",
			send: func(catalog *contract.Catalog, _ engine.Dispatcher) sendMutant {
				var first *engine.Attempt
				return func(attempt *engine.Attempt, next send) engine.Answer {
					answer := next(attempt)
					switch {
					case attempt.Step == "1":
						first = attempt
					case attempt.Kind == treatyv1.CommandKind_COMMAND_KIND_PIVOT && first != nil &&
						answer.Outcome == treatyv1.Outcome_OUTCOME_DONE:
						undo := *first
						undo.Direction, undo.Request = engine.Compensation, nil
						undo.Call, _ = catalog.CallConfig(restore[1:])
						next(&undo)
					}
					return answer
				}
			},
			want: "is DONE in the journal, but has no effect at the participant",
		},
		{
			name: "a reply is taken for that of another step",
			send: func(*contract.Catalog, engine.Dispatcher) sendMutant {
				var first []byte
				return func(attempt *engine.Attempt, next send) engine.Answer {
					answer := next(attempt)
					switch {
					case undoes(attempt) || answer.Outcome != treatyv1.Outcome_OUTCOME_DONE:
					case attempt.Step == "1":
						first = answer.Reply
					case attempt.Step == "2" && first != nil:
						answer.Reply = first
					}
					return answer
				}
			},
			want: "has another reply in the journal than the participant gave",
		},
		{
			name: "the last turn is acknowledged and not stored",
			turn: func() turnMutant {
				return func(entry *journal.Entry, turn *treatyv1.Turn) []*journal.Entry {
					if has(turn, succeeds) {
						return nil
					}
					return []*journal.Entry{entry}
				}
			},
			want: "and not ended",
		},
		{
			name: "a turn is stored twice",
			turn: func() turnMutant {
				return func(entry *journal.Entry, turn *treatyv1.Turn) []*journal.Entry {
					if !has(turn, succeeds) {
						return []*journal.Entry{entry}
					}
					again := *entry
					again.Turn++
					return []*journal.Entry{entry, &again}
				}
			},
			want: "the journal can't be read: outcome in turn",
		},
		{
			name: "a compensation is recorded and never sent",
			send: stateless(func(attempt *engine.Attempt, next send) engine.Answer {
				if undoes(attempt) {
					return isDone
				}
				return next(attempt)
			}),
			want: "is COMPENSATED in the journal, but its effect stands at the participant",
		},
		{
			name: "an action is sent again after its compensation",
			send: func(*contract.Catalog, engine.Dispatcher) sendMutant {
				actions := make(map[string]*engine.Attempt)
				return func(attempt *engine.Attempt, next send) engine.Answer {
					answer := next(attempt)
					if !undoes(attempt) {
						actions[attempt.Step] = attempt
					} else if action := actions[attempt.Step]; action != nil {
						next(action)
					}
					return answer
				}
			},
			want: "was sent after its compensation",
		},
		{
			name: "a refusal is taken for done", send: takes(treatyv1.Outcome_OUTCOME_REFUSED, isDone),
			want: "is DONE in the journal, but has no effect at the participant",
		},
		{
			name: "unknown is taken for refused", send: takes(treatyv1.Outcome_OUTCOME_UNKNOWN, isRefused),
			want: "is REFUSED in the journal, but its effect stands at the participant",
		},
		{
			name: "done is taken for refused", send: takes(treatyv1.Outcome_OUTCOME_DONE, isRefused),
			want: "is REFUSED in the journal, but its effect stands at the participant",
		},
		{
			name: "a pivot that is done is taken for unknown forever",
			send: stateless(func(attempt *engine.Attempt, next send) engine.Answer {
				if answer := next(attempt); attempt.Kind != treatyv1.CommandKind_COMMAND_KIND_PIVOT {
					return answer
				}
				return isUnknown
			}),
			want: "still hasn't ended",
		},
		{
			name: "a command is sent for a saga that isn't stored",
			send: stateless(func(attempt *engine.Attempt, next send) engine.Answer {
				if attempt.Step == "1" {
					other := *attempt
					other.Saga = wire.SagaName("another")
					next(&other)
				}
				return next(attempt)
			}),
			want: "was sent, but no such saga is stored",
		},
		{
			name: "a saga succeeds before all of its steps have ended",
			turn: records(func(turn *treatyv1.Turn) {
				if has(turn, succeeds) {
					turn.Records = slices.DeleteFunc(turn.GetRecords(),
						func(record *treatyv1.Record) bool { return record.GetStepDone() != nil })
				}
			}),
			want: "is SCHEDULED, although the saga has ended",
		},
		{
			name: "a command is stored with another request",
			turn: records(func(turn *treatyv1.Turn) {
				for _, record := range turn.GetRecords() {
					if step := record.GetStepScheduled(); step.GetStep() == "2" {
						step.Request = []byte{}
					}
				}
			}),
			want: "the saga's code doesn't match its journal at step 2",
		},
		{
			name: "a command that is sent again is executed again",
			send: func(_ *contract.Catalog, d engine.Dispatcher) sendMutant {
				return func(attempt *engine.Attempt, next send) engine.Answer {
					if !undoes(attempt) && attempt.Number > 1 {
						d.(*participants).entry(attempt).verdict = engine.NotAnswered
					}
					return next(attempt)
				}
			},
			want: "took effect 2 times, and was undone 0 times",
		},
		{
			name: "a compensation that is sent again is executed again",
			send: func(_ *contract.Catalog, d engine.Dispatcher) sendMutant {
				return func(attempt *engine.Attempt, next send) engine.Answer {
					if undoes(attempt) && attempt.Number > 1 {
						d.(*participants).entry(attempt).undone = false
					}
					return next(attempt)
				}
			},
			want: "took effect 1 times, and was undone 2 times",
		},
	}
}

// TestFindsMutants explores a saga on an engine with a mistake each.
func TestFindsMutants(t *testing.T) {
	for _, test := range mutants() {
		t.Run(test.name, func(t *testing.T) {
			e := newExploration(t, move(moveThenIssue).register, moves, toMove(), nil)
			e.wrapping = test.wrapping(e.catalog)
			failures := e.explore()
			if find(failures, []string{test.want}) == nil {
				t.Errorf("no failure has %q:\n%s", test.want, textsOf(failures))
			}
		})
	}
}

// TestFindsNothingWithoutMutant explores the saga on the engine as it is.
func TestFindsNothingWithoutMutant(t *testing.T) {
	e := newExploration(t, move(moveThenIssue).register, moves, toMove(), nil)
	if failures := e.explore(); len(failures) > 0 {
		t.Error(textsOf(failures))
	}
}
