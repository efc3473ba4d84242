package engine

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// TestStandstillDoesNotCount lets an hour pass between two ticks while code runs, as after a machine was asleep. It
// counts as one tick.
func TestStandstillDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newWatchdog(DefaultTurnLimit, slog.New(slog.DiscardHandler), NoObserver{})
		d.close() // this test makes the ticks
		w := d.watch("x")
		w.Enter()
		defer w.Leave()
		under := []*watched{w}
		for range d.limit {
			if under = d.tick(under); w.Overdue() {
				t.Fatal("interrupted too early")
			}
			<-time.After(time.Hour)
		}
		if d.tick(under); !w.Overdue() {
			t.Error("not interrupted after the limit")
		}
	})
}

// TestTicksOnlyWhileCodeRuns checks that the watchdog interrupts code after the limit and not before, and that it does
// nothing while no code runs: a tick would let the bubble's time pass.
func TestTicksOnlyWhileCodeRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newWatchdog(DefaultTurnLimit, slog.New(slog.DiscardHandler), NoObserver{})
		defer d.close()
		w := d.watch("x")
		for range 3 {
			w.Enter()
			<-time.After(DefaultTurnLimit - 1)
			if w.Overdue() {
				t.Error("interrupted too early")
			}
			<-time.After(2*d.interval + 1)
			if !w.Overdue() {
				t.Error("not interrupted after the limit")
			}
			w.Leave()
		}
		<-time.After(2 * d.interval)
		synctest.Wait()
		if w.listed.Load() {
			t.Error("it is still looked at")
		}
	})
}
