package sagatest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	"github.com/treatyhq/treaty/gen/acme/card/v1/cardv1saga"
	creditv1 "github.com/treatyhq/treaty/gen/acme/credit/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// fatal is a test that records what it fails with.
type fatal struct {
	testing.TB

	text string
}

// Fatal records a text, and ends the function that is tried.
func (f *fatal) Fatal(args ...any) {
	f.text = fmt.Sprint(args...)
	panic(f)
}

// Errorf records a text, and ends the function that is tried, too.
func (f *fatal) Errorf(format string, args ...any) { f.Fatal(fmt.Sprintf(format, args...)) }

// Fatalf records a text, and ends the function that is tried.
func (f *fatal) Fatalf(format string, args ...any) { f.Fatal(fmt.Sprintf(format, args...)) }

// try calls a function, and returns what the test fails with.
func (f *fatal) try(do func()) (text string) {
	defer func() {
		if thrown := recover(); thrown != nil && thrown != any(f) {
			panic(thrown)
		}
		text = f.text
	}()
	do()
	return ""
}

// TestBadInput passes what is wrong to a world. The error says what is wrong, and what there is.
func TestBadInput(t *testing.T) {
	const change = customerv1.CustomerService_ChangeAddress_FullMethodName
	waits := move(func(ctx saga.Context, in *request) (*agreed, error) {
		_, err := saga.Await(ctx, saga.NextEvent[*customerv1.AddressChanged](in.GetCustomer()))
		return new(agreed), err
	})
	issues := move(func(ctx saga.Context, _ *request) (*agreed, error) {
		_, err := cardv1saga.IssueCard(ctx, &cardv1.IssueCardRequest{})
		return new(agreed), err
	})
	for _, test := range []struct {
		name string
		code move
		do   func(*World)
		want []string
	}{
		{
			name: "a request of another saga",
			do:   func(w *World) { w.Start(moves, &cardv1.IssueCardSagaRequest{}) },
			want: []string{"starting acme.customer.v1.CustomerSagas/ChangeAddress: its request is a " +
				"acme.customer.v1.ChangeAddressSagaRequest, not a acme.card.v1.IssueCardSagaRequest"},
		},
		{
			name: "no request", do: func(w *World) { w.Start(moves, nil) },
			want: []string{"its request is a acme.customer.v1.ChangeAddressSagaRequest, not nil"},
		},
		{
			name: "a saga that isn't registered",
			do: func(w *World) {
				w.Start(cardv1.CardSagas_IssueCard_FullMethodName, &cardv1.IssueCardSagaRequest{})
			},
			want: []string{"starting acme.card.v1.CardSagas/IssueCard: no such saga is registered",
				"there are acme.customer.v1.CustomerSagas/ChangeAddress"},
		},
		{
			name: "a stub of a method that doesn't exist",
			do: func(w *World) {
				Stub(w, "/acme.customer.v1.CustomerService/Changes",
					func(context.Context, *request) (*agreed, error) { return new(agreed), nil })
			},
			want: []string{"no linked contract has a command or compensation acme.customer.v1.CustomerService/Changes",
				"its service has acme.customer.v1.CustomerService/ChangeAddress"},
		},
		{
			name: "a stub with another request",
			do: func(w *World) {
				Stub(w, change, func(context.Context, *request) (*customerv1.AddressChanged, error) {
					return new(customerv1.AddressChanged), nil
				})
			},
			want: []string{"the stub of acme.customer.v1.CustomerService/ChangeAddress takes a " +
				"acme.customer.v1.ChangeAddressSagaRequest, not a acme.customer.v1.ChangeAddressRequest"},
		},
		{
			name: "a stub with another reply",
			do: func(w *World) {
				Stub(w, change, func(context.Context, *customerv1.ChangeAddressRequest) (*agreed, error) {
					return new(agreed), nil
				})
			},
			want: []string{"returns a acme.customer.v1.AddressAgreed, not a acme.customer.v1.AddressChanged"},
		},
		{
			name: "a script of a method of no service",
			do:   func(w *World) { w.Script("/acme.customer.v1.Customers/Change", LoseReply()) },
			want: []string{"acme.customer.v1.Customers/Change, nor any other of its service",
				"use the generated constant"},
		},
		{
			name: "a script with another reply",
			do:   func(w *World) { w.Script(change, Reply(new(agreed))) },
			want: []string{"answer 1 in the script of acme.customer.v1.CustomerService/ChangeAddress: it replies " +
				"with a acme.customer.v1.AddressAgreed, not a acme.customer.v1.AddressChanged"},
		},
		{
			name: "a rejection that the contract doesn't declare",
			do:   func(w *World) { w.Script(change, LoseReply(), Reject(new(cardv1.AddressNotServed))) },
			want: []string{"answer 2 in the script of acme.customer.v1.CustomerService/ChangeAddress: it rejects " +
				"with a acme.card.v1.AddressNotServed, but its contract declares only " +
				"acme.customer.v1.CustomerClosed: add it there"},
		},
		{
			name: "a rejection of a command without any",
			do: func(w *World) {
				w.Script(creditv1.CreditService_GetLastCheck_FullMethodName, Reject(new(cardv1.AddressNotServed)))
			},
			want: []string{"but its contract declares no rejection: add it there, or use Fail"},
		},
		{
			name: "a rejection of a compensation",
			do: func(w *World) {
				w.Script(customerv1.CustomerService_RestoreAddress_FullMethodName, Reject(new(cardv1.AddressNotServed)))
			},
			want: []string{"but it is a compensation, which has no rejections: use Fail"},
		},
		{
			name: "no rejection", do: func(w *World) { w.Script(change, Reject(nil)) },
			want: []string{"it rejects with nil: pass the message of a rejection"},
		},
		{
			name: "no error", do: func(w *World) { w.Script(change, Fail(nil)) },
			want: []string{"it fails with nil: pass an error, or use Reply"},
		},
		{
			name: "completing what nobody accepted",
			do: func(w *World) {
				w.Start(moves, toMove()).Wait()
				w.Complete(change, Answer{})
			},
			want: []string{"completing acme.customer.v1.CustomerService/ChangeAddress: no such command has been " +
				"accepted"},
		},
		{
			name: "completing with an error that doesn't refuse",
			do: func(w *World) {
				w.Script(change, Accept(time.Hour))
				w.Start(moves, toMove())
				w.Settle()
				w.Complete(change, Fail(status.Error(codes.Unavailable, "not now")))
			},
			want: []string{"not now: that doesn't refuse the command; use a code such as FAILED_PRECONDITION"},
		},
		{
			name: "completing what never arrives", do: func(w *World) { w.Complete(change, LoseRequest()) },
			want: []string{"the request of a command that was accepted can't be lost"},
		},
		{
			name: "other waits", code: waits,
			do:   func(w *World) { w.Start(moves, toMove()).WantWaits("1h") },
			want: []string{`(RUNNING) waits for ["AddressChanged of customers/ada"]; want ["1h"]`},
		},
		{
			name: "other progress",
			do:   func(w *World) { w.Start(moves, toMove()).WantProgress(new(agreed)) },
			want: []string{"has set no progress; want acme.customer.v1.AddressAgreed"},
		},
		{
			name: "other labels",
			do: func(w *World) {
				w.Start(moves, toMove()).WantLabels(map[string]string{"customer": "customers/ben"})
			},
			want: []string{"are map[customer:customers/ada]; want map[customer:customers/ben]"},
		},
		{
			name: "an event that isn't one", do: func(w *World) { w.Publish(new(agreed)) },
			want: []string{"publishing acme.customer.v1.AddressAgreed: its contract doesn't mark it as an event"},
		},
		{
			name: "no event", do: func(w *World) { w.Publish(nil) },
			want: []string{"publishing an event: it is nil"},
		},
		{
			name: "a saga that waits for ever", code: waits,
			do: func(w *World) { w.Start(moves, toMove()).Wait() },
			want: []string{"still hasn't ended after",
				`type:"acme.customer.v1.AddressChanged" subject:"customers/ada"`},
		},
		{
			name: "a pivot that is never answered", code: issues,
			do: func(w *World) {
				Stub(w, cardv1.CardService_IssueCard_FullMethodName,
					func(context.Context, *cardv1.IssueCardRequest) (*cardv1.CardIssued, error) {
						return nil, status.Error(codes.Unavailable, "never")
					})
				w.Start(moves, toMove()).Wait()
			},
			want: []string{"still hasn't ended: step 1 (acme.card.v1.CardService/IssueCard) of ",
				"was sent 20000 times"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.code == nil {
				test.code = moveAll
			}
			Run(t, test.code.register, func(w *World) {
				failing := &fatal{TB: w.t}
				w.t = failing
				got := failing.try(func() { test.do(w) })
				for _, want := range test.want {
					if compact := strings.ReplaceAll(got, "  ", " "); !strings.Contains(compact, want) {
						t.Errorf("it fails with %q, want %q", got, want)
					}
				}
			})
		})
	}
}

// TestBadExploration explores what can't be explored.
func TestBadExploration(t *testing.T) {
	for _, test := range []struct {
		name    string
		method  string
		options []Option
		want    []string
	}{
		{
			name: "too big", method: moves, options: []Option{MaxRuns(50)},
			want: []string{"exploring acme.customer.v1.CustomerSagas/ChangeAddress would take ",
				" runs, which is more than 50: use SingleFaults, or raise MaxRuns"},
		},
		{
			name: "a saga that isn't registered", method: cardv1.CardSagas_IssueCard_FullMethodName,
			want: []string{"no such saga is registered; there are acme.customer.v1.CustomerSagas/ChangeAddress"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			failures := newExploration(t, move(moveAll).register, test.method, toMove(), test.options).explore()
			if find(failures, test.want) == nil {
				t.Errorf("no failure has all of %q:\n%s", test.want, textsOf(failures))
			}
		})
	}
	t.Run("no register function", func(t *testing.T) {
		if _, _, err := collect(nil); err == nil || !strings.Contains(err.Error(), "no saga is registered") {
			t.Errorf("the error is %v", err)
		}
	})
	t.Run("a negative number of random runs", func(t *testing.T) {
		e := newExploration(t, move(manyMoves).register, moves, toMove(), []Option{RandomRuns(-1)})
		if failures := e.explore(); len(failures) > 0 || e.report.Pairs != 0 {
			t.Errorf("%d pairs:\n%s", e.report.Pairs, textsOf(failures))
		}
	})
	t.Run("a place that the run doesn't reach", func(t *testing.T) {
		faults, err := parseScript("action 9: lose reply")
		if err != nil {
			t.Fatal(err)
		}
		out := newExploration(t, move(moveAll).register, moves, toMove(), nil).run(faults)
		if got := strings.Join(out.wrong(), "\n"); got != "the run doesn't come to action 9" {
			t.Errorf("it says %q", got)
		}
	})
}

// manyMoves sends more commands than a saga may whose pairs are all explored.
func manyMoves(ctx saga.Context, in *request) (*agreed, error) {
	for range maxPairedCommands + 1 {
		if err := changeIn(ctx, in.GetCustomer(), "Delft"); err != nil {
			return nil, err
		}
	}
	return new(agreed), nil
}

// TestBadScript reads scripts with a bad second line. The error names the line and what is allowed.
func TestBadScript(t *testing.T) {
	for _, test := range []struct {
		line, want string
	}{
		{"lose reply", `it isn't "PLACE NUMBER: FAULT", such as "action 2: lose reply"`},
		{"action: lose reply", `it isn't "PLACE NUMBER: FAULT"`},
		{"step 2: lose reply", `there is no place "step"; there are action, compensation, turn and event`},
		{"turn 2: lose reply", `there is no fault "lose reply" of turn; there are ["crash before"`},
		{"compensation 2: refuse", `there is no fault "refuse" of compensation`},
		{"event 1: arrive after timer", `it doesn't say which timer, such as "event 1: arrive after timer 1"`},
		{"event 1: arrive after timer 0", `"0" isn't the number of a timer, from 1`},
		{"action 2: reject", `there is no fault "reject" of action`},
		{"action 2: reject acme.card.v1.Nothing", `no linked contract has the rejection acme.card.v1.Nothing`},
	} {
		_, err := parseScript("turn 1: cancel\n" + test.line)
		if want := fmt.Sprintf("line 2 of the script, %q: ", test.line); err == nil ||
			!strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: the error is %v, want %q", test.line, err, want+test.want)
		}
	}
}
