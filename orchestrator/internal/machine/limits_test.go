package machine_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// TestLimits checks that a saga that exceeds a limit is suspended with a reason, the same after a crash.
func TestLimits(t *testing.T) {
	call := func(thread *machine.Thread, bytes int) *treatyv1.Failure {
		return thread.Call(&machine.Call{Method: "Q", Request: make([]byte, bytes)}).Failure
	}
	callOnce := func(_ int, thread *machine.Thread) *treatyv1.Failure { return call(thread, 0) }
	callLargest := func(_ int,
		thread *machine.Thread) *treatyv1.Failure {
		return call(thread, machine.MaxPayloadBytes)
	}
	for _, test := range []struct {
		name string
		code func(thread *machine.Thread)
		want string // in the message of the suspension; empty if the saga isn't suspended
		slow bool   // takes too long with the race detector
	}{
		{
			name: "a loop of sleeps",
			code: func(thread *machine.Thread) {
				for {
					thread.Wait(&machine.Wait{Until: thread.Now()})
				}
			},
			want: "wait 10001 breaks a rule: a saga has at most 10000 steps, waits and broadcasts; move work to " +
				"child sagas, or restart",
		},
		{
			name: "a loop of commands",
			code: func(thread *machine.Thread) {
				for {
					call(thread, 0)
				}
			},
			want: "step 10001 breaks a rule: a saga has at most 10000 steps",
		},
		{
			name: "a loop of broadcasts without participants",
			code: func(thread *machine.Thread) {
				for {
					thread.Broadcast(&machine.Broadcast{Method: "N"}, nil)
				}
			},
			want: "broadcast 10001 breaks a rule: a saga has at most 10000 steps",
		},
		{
			name: "as many branches with a step as are allowed",
			slow: true,
			code: func(thread *machine.Thread) {
				thread.Branch(&machine.Branches{Count: machine.MaxSteps, Body: callOnce})
			},
		},
		{
			name: "one branch with a step too many",
			slow: true,
			code: func(thread *machine.Thread) {
				thread.Branch(&machine.Branches{Count: machine.MaxSteps + 1, Body: callOnce})
			},
			want: "step 1.10001.1 breaks a rule: a saga has at most 10000 steps",
		},
		{
			name: "too many open branches",
			slow: true,
			code: func(thread *machine.Thread) {
				thread.Branch(&machine.Branches{Count: 1 << 30, Body: callOnce})
			},
			want: "the saga breaks a rule: it has more than 20000 open branches; limit saga.Each with saga.AtMost",
		},
		{
			name: "more branches than that, ten at a time",
			slow: true,
			code: func(thread *machine.Thread) {
				nothing := func(int, *machine.Thread) *treatyv1.Failure { return nil }
				thread.Branch(&machine.Branches{Count: 3 * machine.MaxSteps, AtOnce: 10, Body: nothing})
			},
		},
		{
			name: "the largest request",
			code: func(thread *machine.Thread) { call(thread, machine.MaxPayloadBytes) },
		},
		{
			name: "a request that is too large",
			code: func(thread *machine.Thread) { call(thread, machine.MaxPayloadBytes+1) },
			want: "the request of Q has 4194305 bytes; at most 4194304 are allowed; store the data elsewhere",
		},
		{
			name: "too many bytes at the same time",
			code: func(thread *machine.Thread) {
				thread.Branch(&machine.Branches{Count: 5, Body: callLargest})
			},
			want: "the requests sent at the same time have more than 16777216 bytes; limit saga.Each with saga.AtMost",
		},
		{
			name: "the same bytes, fewer at a time",
			code: func(thread *machine.Thread) {
				thread.Branch(&machine.Branches{Count: 5, AtOnce: 4, Body: callLargest})
			},
		},
		{
			name: "a long history",
			code: func(thread *machine.Thread) {
				for {
					call(thread, machine.MaxPayloadBytes)
				}
			},
			want: "at most 67108864 are allowed; move work to child sagas",
		},
		{
			name: "a long history of progress",
			code: func(thread *machine.Thread) {
				for {
					thread.SetProgress(&anypb.Any{Value: make([]byte, 1<<20)})
					call(thread, 0)
				}
			},
			want: "the requests, replies, events and progress in the saga's journal have",
		},
		{
			name: "the most events in a wait",
			code: func(thread *machine.Thread) { thread.Wait(&machine.Wait{Events: keys(machine.MaxWaitEvents, "k")}) },
		},
		{
			name: "too many events in a wait",
			code: func(thread *machine.Thread) {
				thread.Wait(&machine.Wait{Events: keys(machine.MaxWaitEvents+1, "k")})
			},
			want: "it awaits 101 events; at most 100 are allowed; await them in several branches",
		},
		{
			name: "the longest key",
			code: func(thread *machine.Thread) {
				thread.Wait(&machine.Wait{Events: keys(1, strings.Repeat("k", machine.MaxSubjectBytes))})
			},
		},
		{
			name: "a key that is too long",
			code: func(thread *machine.Thread) {
				thread.Wait(&machine.Wait{Events: keys(1, strings.Repeat("k", machine.MaxSubjectBytes+1))})
			},
			want: "it awaits E with a key of 257 bytes; at most 256 are allowed",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if testing.Short() && test.slow {
				t.Skip("takes too long with the race detector")
			}
			config := machine.Config{
				ID: "x",
				Code: func(thread *machine.Thread, _ []byte) ([]byte, *treatyv1.Failure) {
					test.code(thread)
					return []byte{}, nil
				},
				Command: func(method string) (*contract.Command, bool) {
					return &contract.Command{
						CallConfig: contract.CallConfig{Method: method},
						Kind:       treatyv1.CommandKind_COMMAND_KIND_QUERY,
						Broadcast:  method == "N",
					}, true
				},
			}
			live := runToEnd(t, config)
			defer live.machine.Close()
			message := live.machine.Saga().Suspension.GetMessage()
			if !strings.Contains(message, test.want) || test.want == "" && message != "" {
				t.Errorf("suspended with %q, want %q", message, test.want)
			}
			again := machine.New(config)
			defer again.Close()
			for _, turn := range live.journal {
				if err := again.Replay(turn); err != nil {
					t.Fatal(err)
				}
			}
			if again.Saga().PayloadBytes() != live.machine.Saga().PayloadBytes() ||
				again.Saga().Suspension.GetMessage() != message {
				t.Errorf("after a crash the saga is suspended with %q", again.Saga().Suspension.GetMessage())
			}
			if _, err := again.Apply(live.now, machine.Cancel{}); message != "" && err != nil {
				t.Errorf("the saga can't be cancelled: %v", err)
			}
		})
	}
}

// TestReplyThatCanNotBePublished returns a reply that is an event and breaks the limits of events.
func TestReplyThatCanNotBePublished(t *testing.T) {
	s := runToEnd(t, machine.Config{
		ID: "x",
		Code: func(*machine.Thread, []byte) ([]byte, *treatyv1.Failure) {
			return []byte("too long"), nil
		},
		Publishable: func(method string, reply []byte) error {
			return fmt.Errorf("%s returned %q", method, reply)
		},
	})
	defer s.machine.Close()
	const want = "the saga breaks a rule: its reply is an event that can't be published: " +
		`Test/Saga returned "too long"; ` + "fix the code and resume, or cancel the saga, which needs no code"
	if got := s.machine.Saga().Suspension; got.GetMessage() != want {
		t.Errorf("got %v", got)
	}
}

func keys(n int, subject string) []*treatyv1.EventKey {
	var keys []*treatyv1.EventKey
	for range n {
		keys = append(keys, &treatyv1.EventKey{Type: "E", Subject: subject})
	}
	return keys
}

// runToEnd runs a saga of queries until it ends, waits for an event, or is suspended.
func runToEnd(t *testing.T, config machine.Config) *scenario {
	t.Helper()
	s := &scenario{t: t, now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), machine: machine.New(config)}
	inputs := []machine.Input{machine.Start{Started: &treatyv1.SagaStarted{Definition: "Test/Saga"}}}
	for len(inputs) > 0 {
		out, err := s.machine.Apply(s.now, inputs[0])
		if err != nil {
			t.Fatal(err)
		}
		inputs = inputs[1:]
		if out.Turn != nil {
			s.journal = append(s.journal, out.Turn)
		}
		for _, effect := range out.Effects {
			if effect.Discover != nil {
				inputs = append(inputs, machine.Discovered{Path: effect.Discover.Path})
				continue
			}
			inputs = append(inputs,
				machine.CommandEnded{Step: effect.Step.Path(), Direction: machine.Action, Outcome: machine.Done})
		}
	}
	return s
}

// TestUnknownRecord checks that a journal of a newer version can't be read, with a reason.
func TestUnknownRecord(t *testing.T) {
	// A record of a newer kind: a field of the oneof that this version doesn't know.
	turn := stored(t, &treatyv1.Turn{Records: []*treatyv1.Record{{}}})
	turn.Records[0].ProtoReflect().SetUnknown([]byte{0xfa, 0x06, 0x00})
	const want = "the journal can't be read: record in turn 1 of saga x: this version doesn't know its kind; " +
		"run the version that wrote it, or a newer one"
	if err := machine.New(machine.Config{ID: "x"}).Replay(turn); err == nil || err.Error() != want {
		t.Errorf("replaying: %v", err)
	}
	if err := (&machine.Saga{ID: "x"}).Fold(turn); err == nil || err.Error() != want {
		t.Errorf("folding: %v", err)
	}
}

// TestMisfits checks that records that don't fit the records before them can't be read.
func TestMisfits(t *testing.T) {
	started := &treatyv1.Record{Kind: &treatyv1.Record_SagaStarted{SagaStarted: &treatyv1.SagaStarted{}}}
	scheduled := &treatyv1.Record{Kind: &treatyv1.Record_StepScheduled{
		StepScheduled: &treatyv1.StepScheduled{Step: "1"},
	}}
	waits := &treatyv1.Record{Kind: &treatyv1.Record_WaitScheduled{WaitScheduled: &treatyv1.WaitScheduled{Wait: "1"}}}
	compensationScheduled := &treatyv1.Record{Kind: &treatyv1.Record_CompensationScheduled{
		CompensationScheduled: &treatyv1.CompensationScheduled{Step: "1"},
	}}
	compensationDone := &treatyv1.Record{Kind: &treatyv1.Record_CompensationDone{
		CompensationDone: &treatyv1.CompensationDone{Step: "1"},
	}}
	done := &treatyv1.Record{Kind: &treatyv1.Record_StepDone{StepDone: &treatyv1.StepDone{Step: "1"}}}
	ended := &treatyv1.Record{Kind: &treatyv1.Record_WaitEnded{WaitEnded: &treatyv1.WaitEnded{Wait: "1"}}}
	endedByEvent := &treatyv1.Record{Kind: &treatyv1.Record_WaitEnded{WaitEnded: &treatyv1.WaitEnded{
		Wait: "1", How: &treatyv1.WaitEnded_Event{Event: &treatyv1.EventArrived{Index: 0}},
	}}}
	for name, test := range map[string]struct {
		records []*treatyv1.Record
		want    string
	}{
		"started twice": {[]*treatyv1.Record{started, started},
			"saga_started in turn 1 of saga x: the saga has already started"},
		"scheduled twice":        {[]*treatyv1.Record{started, scheduled, scheduled}, "step 1 is already scheduled"},
		"done but not scheduled": {[]*treatyv1.Record{started, done}, "step 1 is not open"},
		"compensation of a step that isn't done": {
			[]*treatyv1.Record{started, scheduled, compensationScheduled},
			"step 1 has nothing to compensate",
		},
		"compensation done but not scheduled": {
			[]*treatyv1.Record{started, scheduled, compensationDone},
			"step 1 is not being compensated",
		},
		"the end of a wait that isn't open": {
			[]*treatyv1.Record{started, ended}, "wait 1 is not open",
		},
		"the end of a wait by an event that it doesn't await": {
			[]*treatyv1.Record{started, waits, endedByEvent}, "wait 1 doesn't await that event",
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := (&machine.Saga{ID: "x"}).Fold(&treatyv1.Turn{Records: test.records})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("folded with %v, want %q", err, test.want)
			}
			if !strings.HasPrefix(fmt.Sprint(err), machine.ErrJournal.Error()) {
				t.Errorf("%v is not ErrJournal", err)
			}
		})
	}
}
