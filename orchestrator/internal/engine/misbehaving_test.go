package engine_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	benchv1 "github.com/treatyhq/treaty/gen/bench/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// TestMessagesOfAnotherType sends messages that aren't those of the command. Nothing is sent.
func TestMessagesOfAnotherType(t *testing.T) {
	for name, test := range map[string]struct {
		in, out proto.Message
		says    string
	}{
		"the request": {&benchv1.RunRequest{}, new(benchv1.WorkDone),
			"takes a bench.v1.WorkRequest, but it was sent a bench.v1.RunRequest"},
		"the reply": {&benchv1.WorkRequest{}, new(benchv1.RunDone),
			"returns a bench.v1.WorkDone, but its reply is read as a bench.v1.RunDone"},
		"a request that is nil": {(*benchv1.WorkRequest)(nil), new(benchv1.WorkDone), "was sent nil"},
		"no request":            {nil, new(benchv1.WorkDone), "was sent nil"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFixture(t)
				w.misbehaves(func(ctx saga.Context) error {
					return saga.Call(ctx, benchv1.WorkService_Work_FullMethodName, test.in, test.out)
				})
				w.wantSuspended(w.start(0).ID, broken, test.says)
				if seen := w.participant.seen(); len(seen) > 0 {
					t.Errorf("it sent %v", seen)
				}
			})
		})
	}
}

// TestReplyThatIsNoEvent answers a command with an event that breaks the limits of events. It isn't published, and the
// saga is suspended, because others may wait for it. An operator lets it continue.
func TestReplyThatIsNoEvent(t *testing.T) {
	for name, test := range map[string]struct {
		key, rest int // sizes
		says      string
	}{
		"its key":  {key: machine.MaxSubjectBytes + 1, says: "has 257 bytes; at most 256 are allowed"},
		"its size": {key: 1, rest: machine.MaxEventBytes, says: "bytes; at most 1048576 are allowed"},
		"nothing":  {key: machine.MaxSubjectBytes},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFixture(t)
				reply, err := proto.Marshal(&customerv1.AddressChanged{Customer: strings.Repeat("k", test.key)})
				if err != nil {
					t.Fatal(err)
				}
				// A field of a newer contract.
				reply = protowire.AppendTag(reply, 100, protowire.BytesType)
				reply = protowire.AppendBytes(reply, make([]byte, test.rest))
				w.participant.answer("action 1", engine.Answer{Outcome: treatyv1.Outcome_OUTCOME_DONE, Reply: reply})
				w.misbehaves(func(ctx saga.Context) error {
					if err := saga.Call(ctx, customerv1.CustomerService_ChangeAddress_FullMethodName,
						&customerv1.ChangeAddressRequest{}, new(customerv1.AddressChanged)); err != nil {
						return err
					}
					return work(ctx, 2)
				})
				handle, published := w.start(0), 1
				if test.says != "" {
					published = 0
					w.wantSuspended(handle.ID, broken, test.says)
					if err := w.engine.Resume(t.Context(), handle.ID,
						engine.ResumeParams{Action: machine.Retry}); err != nil {
						t.Fatal(err)
					}
				}
				if got := w.await(handle.ID); got != succeeded {
					t.Errorf("it is %v", got)
				}
				events, err := w.store.Events(t.Context(), journal.EventsParams{Limit: 10})
				if err != nil || len(events) != published {
					t.Errorf("published %d events: %v", len(events), err)
				}
			})
		})
	}
}
