package engine_test

import (
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/treatyhq/treaty/gen/acme/identity/v1/identityv1saga"
	benchv1 "github.com/treatyhq/treaty/gen/bench/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/journaltest"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/sealed"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// locker is a fixture whose store is sealed.
type locker struct {
	*fixture

	memory *journaltest.Memory
	path   string // of the keys
	key    string // that is taken out
	kept   []byte // the file before that
}

func newLocker(t *testing.T, w *fixture) *locker {
	t.Helper()
	l := &locker{fixture: w, memory: journaltest.NewMemory(), path: filepath.Join(t.TempDir(), "keys.json")}
	var err error
	if l.key, err = sealed.CreateKeys(l.path); err != nil {
		t.Fatal(err)
	}
	w.stop()
	l.reopen()
	return l
}

func (l *locker) reopen() {
	l.t.Helper()
	keys, err := sealed.OpenKeys(l.path, slog.New(slog.DiscardHandler))
	if err != nil {
		l.t.Fatal(err)
	}
	l.memory = l.memory.Reopen()
	l.store = sealed.New(l.memory, keys)
	l.open()
}

// lose rotates the key, takes the old one out of the file, and starts the engine again.
func (l *locker) lose() {
	l.t.Helper()
	l.stop()
	if _, err := sealed.RotateKeys(l.path); err != nil {
		l.t.Fatal(err)
	}
	var err error
	if l.kept, err = os.ReadFile(l.path); err != nil {
		l.t.Fatal(err)
	}
	var file map[string]any
	if err := json.Unmarshal(l.kept, &file); err != nil {
		l.t.Fatal(err)
	}
	keys, _ := file["keys"].([]any)
	file["keys"] = slices.DeleteFunc(keys, func(key any) bool {
		fields, _ := key.(map[string]any)
		return fields["id"] == l.key
	})
	data, err := json.Marshal(file)
	if err == nil {
		err = os.WriteFile(l.path, data, 0o600)
	}
	if err != nil {
		l.t.Fatal(err)
	}
	l.reopen()
	synctest.Wait()
}

// isSuspended checks that a saga is suspended for the key, also in the store, and that a decision is refused.
func (l *locker) isSuspended(id string) {
	l.t.Helper()
	got := l.get(id)
	reason := treatyv1.SuspensionReason_SUSPENSION_REASON_KEY_MISSING
	if got.GetState() != suspended || got.GetSuspension().GetReason() != reason ||
		!strings.Contains(got.GetSuspension().GetMessage(), l.key) {
		l.t.Fatalf("the saga is %v, %v; want it suspended for the key %s", got.GetState(), got.GetSuspension(), l.key)
	}
	row, err := l.memory.Get(l.t.Context(), id)
	if err != nil || row.State != suspended || row.Suspension != reason || machine.Etag(row.Revision) != got.GetEtag() {
		l.t.Errorf("its row is %+v, %v; want it suspended, with the etag %s", row, err, got.GetEtag())
	}
	if err := l.resume(id); !errors.Is(err, journal.ErrKey) {
		l.t.Errorf("resuming it without the key: %v, want ErrKey", err)
	}
}

func (l *locker) resume(id string) error {
	return l.engine.Resume(l.t.Context(), id, engine.ResumeParams{
		Action: machine.Retry, Decision: &treatyv1.Decision{Actor: "ann", Reason: "the key is back"},
	})
}

// find puts the key back into the file, while the engine runs.
func (l *locker) find() {
	l.t.Helper()
	if err := os.WriteFile(l.path, l.kept, 0o600); err != nil {
		l.t.Fatal(err)
	}
}

// TestKeyMissing takes a key away from sagas that run, are compensated or wait. Each is suspended and names the key,
// others go on, and once the key is back and the saga is resumed, it ends as it would have ended. No undo is skipped.
func TestKeyMissing(t *testing.T) {
	tests := map[string]struct {
		code    func(saga.Context, *benchv1.RunRequest) (*benchv1.RunDone, error)
		prepare func(*participant)
		stalled string // the command in flight when the engine stops
		publish bool   // the event that the saga awaits, while the key is missing
		want    treatyv1.SagaState
		calls   []string // since the engine was started without the key
	}{
		"running": {code: run, stalled: "action 2", want: succeeded, calls: []string{"action 2#1", "action 3#1"}},
		"compensating": {
			code: run, prepare: func(p *participant) { p.answer("action 3", refused) }, stalled: "compensation 2",
			want: compensated, calls: []string{"compensation 2#1", "compensation 1#1"},
		},
		"waiting": {
			code: func(ctx saga.Context, _ *benchv1.RunRequest) (*benchv1.RunDone, error) {
				_, err := identityv1saga.AwaitApplicantVerified(ctx, "applicants/ada")
				return &benchv1.RunDone{}, err
			},
			publish: true, want: succeeded,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLocker(t, language(t, test.code))
				if test.prepare != nil {
					test.prepare(l.participant)
				}
				release := func() {}
				if test.stalled != "" {
					release = l.participant.stall(test.stalled)
				}
				id := l.start(3).ID
				synctest.Wait()
				l.lose()
				if test.publish {
					l.publish(verified("applicants/ada"))
				}
				synctest.Wait()
				release()
				l.isSuspended(id)
				before := len(l.participant.seen())
				if !test.publish {
					other := l.start(1)
					if got := l.await(other.ID); got != succeeded {
						t.Errorf("another saga ends as %v, want it to succeed", got)
					}
					before = len(l.participant.seen())
				}
				pass(time.Hour)
				synctest.Wait()
				if calls := l.participant.seen()[before:]; len(calls) > 0 {
					t.Errorf("without the key, it called %q", calls)
				}
				l.find()
				if err := l.resume(id); err != nil {
					t.Fatalf("resuming it with the key: %v", err)
				}
				if got := l.await(id); got != test.want {
					t.Errorf("it ends as %v, want %v", got, test.want)
				}
				if calls := l.participant.seen()[before:]; !slices.Equal(calls, test.calls) {
					t.Errorf("with the key, it called %q, want %q", calls, test.calls)
				}
			})
		})
	}
}

// TestKeyOfEventMissing takes away the key of an event only, while the saga that will await it runs.
func TestKeyOfEventMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLocker(t, language(t, func(ctx saga.Context, _ *benchv1.RunRequest) (*benchv1.RunDone, error) {
			if err := work(ctx, 1); err != nil {
				return nil, err
			}
			_, err := identityv1saga.AwaitApplicantVerified(ctx, "applicants/ada")
			return &benchv1.RunDone{}, err
		}))
		release := l.participant.stall("action 1")
		id := l.start(1).ID
		synctest.Wait()
		var err error
		if l.key, err = sealed.RotateKeys(l.path); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute) // the file is read again
		l.publish(verified("applicants/ada"))
		synctest.Wait()
		l.lose()
		release()
		synctest.Wait()
		got := l.get(id)
		if got.GetSuspension().GetReason() != treatyv1.SuspensionReason_SUSPENSION_REASON_KEY_MISSING ||
			!strings.Contains(got.GetSuspension().GetMessage(), l.key) {
			t.Fatalf("the saga is %v, %v; want it suspended for the key %s", got.GetState(), got.GetSuspension(), l.key)
		}
		if err := l.resume(id); err != nil {
			t.Errorf("resuming it without the key: %v", err)
		}
		synctest.Wait()
		if got := l.get(id); got.GetState() != suspended {
			t.Errorf("resumed without the key, it is %v, want suspended again", got.GetState())
		}
		l.find()
		if err := l.resume(id); err != nil {
			t.Fatalf("resuming it with the key: %v", err)
		}
		if got := l.await(id); got != succeeded {
			t.Errorf("it ends as %v, want it to succeed", got)
		}
	})
}
