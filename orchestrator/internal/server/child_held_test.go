package server

import (
	"testing"
	"time"
)

// TestAskAgain checks that parents ask seldom for their children only while there are more than can be waited for.
func TestAskAgain(t *testing.T) {
	s := new(Server)
	for held, want := range map[int64]time.Duration{
		1: time.Second, maxHeld: time.Second, maxHeld + 1: 30 * time.Second,
	} {
		if s.held.Store(held); s.askAgain() != want {
			t.Errorf("with %d held calls, a parent asks again after %v, want %v", held, s.askAgain(), want)
		}
	}
}
