package engine_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/treatyhq/treaty/orchestrator/engine"
	"github.com/treatyhq/treaty/orchestrator/journal"
)

var errDisk = errors.New("the disk said no")

// doubtful is a store one of whose appends fails, before it writes or after.
type doubtful struct {
	journal.Store

	mu      sync.Mutex
	appends int
	fail    int  // which append fails, from 1
	written bool // whether it is written all the same
	down    int  // how many loads fail after it
}

func (d *doubtful) Append(ctx context.Context, group []*journal.Entry) error {
	d.mu.Lock()
	d.appends++
	fails := d.appends == d.fail
	d.mu.Unlock()
	if !fails {
		return d.Store.Append(ctx, group) //nolint:wrapcheck // it stands for the store
	}
	if d.written {
		if err := d.Store.Append(ctx, group); err != nil {
			return err //nolint:wrapcheck // it stands for the store
		}
	}
	return errDisk
}

func (d *doubtful) Load(ctx context.Context, id string) (*journal.Journal, error) {
	d.mu.Lock()
	fails := d.appends >= d.fail && d.down > 0
	if fails {
		d.down--
	}
	d.mu.Unlock()
	if fails {
		return nil, errDisk
	}
	return d.Store.Load(ctx, id) //nolint:wrapcheck // it stands for the store
}

// TestFailedCommitIsUnknown fails each of a saga's commits in turn, before it is written and after, with a store that doesn't answer for a
// while. The saga comes to the same end each time, and no recorded command is sent again.
func TestFailedCommitIsUnknown(t *testing.T) {
	for _, written := range []bool{false, true} {
		for _, refusal := range []bool{false, true} {
			turns, want := 4, succeeded
			if refusal {
				turns, want = 6, compensated
			}
			for fail := 1; fail <= turns; fail++ {
				t.Run(fmt.Sprintf("written=%v/refusal=%v/turn=%d", written, refusal, fail), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t)
						w.stop()
						w.store = &doubtful{Store: w.store, fail: fail, written: written, down: 3}
						w.open()
						if refusal {
							w.participant.answer("action 3", refused)
						}
						params := engine.StartParams{Definition: definition, Request: request(t, 3), RequestID: "once"}
						handle, err := w.engine.Start(t.Context(), params)
						if fail == 1 {
							if !errors.Is(err, engine.ErrInDoubt) {
								t.Fatalf("a start whose commit failed: %v", err)
							}
							synctest.Wait()
							for handle == nil {
								if handle, err = w.engine.Start(t.Context(), params); err != nil && !errors.Is(err, engine.ErrInDoubt) && !errors.Is(err, errDisk) {
									t.Fatal(err)
								}
							}
						} else if err != nil {
							t.Fatal(err)
						}
						end, err := handle.Await(t.Context())
						if err != nil || end.State != want {
							t.Fatalf("got %v, %v; calls: %v", end, err, w.participant.seen())
						}
						counts := make(map[string]int)
						for _, call := range w.participant.seen() {
							counts[call]++
						}
						for call, n := range counts {
							if n > 1 {
								t.Errorf("%s was sent %d times", call, n)
							}
						}
						if len(counts) != map[bool]int{false: 3, true: 5}[refusal] {
							t.Errorf("calls: %v", w.participant.seen())
						}
					})
				})
			}
		}
	}
}
