package engine_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	benchv1 "github.com/treatyhq/treaty/gen/bench/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/admission"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

// tryStart starts a saga of one step.
func (w *fixture) tryStart(requestID, customer string) (*engine.Handle, error) {
	w.t.Helper()
	request, err := proto.Marshal(&benchv1.RunRequest{Steps: 1})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.engine.Start(w.t.Context(), engine.StartParams{
		Definition: definition, Request: request, RequestID: requestID, Labels: map[string]string{"customer": customer},
	})
}

// wantOverloaded checks that a start was refused.
func wantOverloaded(t *testing.T, err error) {
	t.Helper()
	refused, is := errors.AsType[*engine.OverloadedError](err)
	if !is || !errors.Is(err, engine.ErrOverloaded) || refused.RetryAfter <= 0 {
		t.Errorf("got %v, want an overload that says when to start the saga again", err)
	}
}

// Starts are refused while a limit of open sagas is reached. Sagas that exist are found all the same, and those that
// were recovered count.
func TestOpenLimits(t *testing.T) {
	for _, test := range []struct {
		name   string
		limits engine.StartLimits
	}{
		{"of a definition", engine.StartLimits{Definitions: map[string]engine.DefinitionLimit{definition: {Open: 2}}}},
		{"of a label's value", engine.StartLimits{Labels: map[string]int{"customer": 2}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFixture(t)
				w.stop()
				w.startLimits = test.limits
				w.open()
				release := w.participant.stall("action 1")
				var handles []*engine.Handle
				for i := range 2 {
					handle, err := w.tryStart(fmt.Sprint(i), "ada")
					if err != nil {
						t.Fatal(err)
					}
					handles = append(handles, handle)
				}
				_, err := w.tryStart("2", "ada")
				wantOverloaded(t, err)
				if handle, err := w.tryStart("0", "ada"); err != nil || handle.ID != handles[0].ID {
					t.Errorf("a saga that exists isn't found: %v", err)
				}
				if test.limits.Labels != nil {
					if handle, err := w.tryStart("3", "grace"); err != nil {
						t.Errorf("the limit of one value holds for another: %v", err)
					} else {
						handles = append(handles, handle)
					}
				}
				w.crash()
				_, err = w.tryStart("4", "ada")
				wantOverloaded(t, err)
				release()
				for _, handle := range handles {
					w.await(handle.ID)
				}
				if _, err := w.tryStart("5", "ada"); err != nil {
					t.Errorf("after the others have ended: %v", err)
				}
			})
		})
	}
}

func TestStartRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		w.stop()
		w.startLimits = engine.StartLimits{Definitions: map[string]engine.DefinitionLimit{definition: {PerSecond: 2}}}
		w.open()
		started := 0
		for i := range 100 {
			_, err := w.tryStart(fmt.Sprint(i), "ada")
			if err == nil {
				started++
			} else {
				wantOverloaded(t, err)
			}
			pass(100 * time.Millisecond)
		}
		if started < 20 || started > 23 {
			t.Errorf("%d sagas were started within 10 s, want about 20", started)
		}
	})
}

// When new sagas wait long for their participant, no further ones are started.
func TestStartsBeyondWhatCanBeDriven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		if _, err := w.tryStart("1", "ada"); err != nil {
			t.Fatal(err)
		}
		w.participant.mu.Lock()
		w.participant.waitsSince = time.Now()
		w.participant.mu.Unlock()
		pass(9 * time.Second)
		if _, err := w.tryStart("2", "ada"); err != nil {
			t.Fatal(err)
		}
		pass(2 * time.Second)
		_, err := w.tryStart("3", "ada")
		wantOverloaded(t, err)
		if _, err := w.tryStart("2", "ada"); err != nil {
			t.Errorf("a saga that exists isn't found: %v", err)
		}
		w.participant.mu.Lock()
		w.participant.waitsSince = time.Time{}
		w.participant.mu.Unlock()
		if _, err := w.tryStart("3", "ada"); err != nil {
			t.Error(err)
		}
	})
}

// Commands say how urgent they are.
func TestClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		w.participant.answer("action 2", refused)
		handle := w.start(2)
		w.await(handle.ID)
		want := []admission.Class{admission.First, admission.Begun, admission.Undo}
		var got []admission.Class
		for _, claim := range w.participant.claims {
			got = append(got, claim.Class)
			if claim.Definition != definition || claim.Start.IsZero() {
				t.Errorf("got %+v, want the definition and the start of the saga", claim)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("the classes are %v, want %v", got, want)
		}
	})
}
