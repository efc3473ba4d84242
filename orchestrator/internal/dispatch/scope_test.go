package dispatch

import (
	"testing"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// TestScopes sends commands of several scopes to a participant that reads the scope of each command on a stream, and to
// one that reads only that of the greeting.
func TestScopes(t *testing.T) {
	for name, reads := range map[string]bool{"it reads each command's": true, "it reads the greeting's": false} {
		t.Run(name, func(t *testing.T) {
			participant := newStreamer(echo)
			participant.scopes = reads
			d := streamingDispatcher(t, participant.serve(t))
			awaitStreams(t, d, 1)
			other, _ := self(func(s *Self) { s.Scope, s.Epoch = "/1", 200 })
			scope := d.Open(other)
			awaitOpen(t, d)
			for _, from := range []sender{{"/0", 100}, {"/1", 200}} {
				a := attempt()
				a.Scope, a.Epoch = from.scope, from.epoch
				if got := d.Attempt(t.Context(), a); got.Outcome != treatyv1.Outcome_OUTCOME_DONE {
					t.Errorf("%v: got %+v", from, got)
				}
				if _, found := participant.senders.Load(from); !found {
					t.Errorf("the participant has no command of %v", from)
				}
			}
			streamed, unary := participant.streamed.Load(), participant.unary.Load()
			if reads && (streamed != 2 || unary != 0) || !reads && (streamed != 1 || unary != 1) {
				t.Errorf("%d commands came on the stream and %d as unary calls", streamed, unary)
			}
			scope.Close()
			if d.scopes.find(sender{"/1", 200}) != nil || d.scopes.any() == nil {
				t.Error("the wrong scope is closed")
			}
		})
	}
}

// TestOpenedScope opens a scope while the participant doesn't answer. Commands wait, and no longer once the scope is
// closed.
func TestOpenedScope(t *testing.T) {
	service := newDescriber()
	me, _ := self()
	d := dispatcher(t, serveDescriber(t, service, echo), func(c *testConfig) { c.Self = me })
	awaitOpen(t, d)
	service.mu.Lock() // so that Describe doesn't answer
	other, _ := self(func(s *Self) { s.Scope = "/1" })
	scope := d.Open(other)
	granted := admit(d)
	select {
	case <-granted:
		t.Fatal("a command is sent before the participant was told about the scope")
	default:
	}
	if states := scope.Participants(); states[0].Described {
		t.Errorf("the state is %+v", states)
	}
	scope.Close()
	(<-granted).Release()
	service.mu.Unlock()
}

// TestReplacedScope hears of a later epoch of one of two scopes.
func TestReplacedScope(t *testing.T) {
	service := newDescriber()
	me, replaced := self()
	d := dispatcher(t, serveDescriber(t, service, echo), func(c *testConfig) { c.Self = me })
	awaitOpen(t, d)
	service.mu.Lock()
	service.response.Heard = &treatyv1.HeardScope{Epoch: 150}
	service.mu.Unlock()
	other, replacedToo := self(func(s *Self) { s.Scope, s.Epoch, s.PreviousEpoch = "/1", 200, 120 })
	scope := d.Open(other)
	defer scope.Close()
	awaitOpen(t, d)
	if len(replaced) != 0 || len(replacedToo) != 1 {
		t.Errorf("%d and %d causes, want 0 and 1", len(replaced), len(replacedToo))
	}
	if state := scope.Participants()[0]; !state.Described {
		t.Errorf("the state is %+v", state)
	}
}
