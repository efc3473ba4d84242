package inflight_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/treatyhq/treaty/orchestrator/internal/inflight"
)

func TestWaitReturnsWhenTheLastWorkEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := inflight.New()
		for range 2 {
			if !c.Enter() {
				t.Fatal("an open counter refused work")
			}
		}
		if !c.Close() || c.Close() || !c.Closed() {
			t.Error("Close must return true only the first time")
		}
		if c.Enter() {
			t.Error("a closed counter took work")
		}
		waited := make(chan int64, 1)
		go func() { waited <- c.Wait(t.Context()) }()
		synctest.Wait()
		c.Leave()
		synctest.Wait()
		select {
		case <-waited:
			t.Fatal("Wait returned while work was in flight")
		default:
		}
		c.Leave()
		if left := <-waited; left != 0 {
			t.Errorf("Wait returned %d, want 0", left)
		}
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	c := inflight.New()
	c.Enter()
	c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if left := c.Wait(ctx); left != 1 {
		t.Errorf("Wait returned %d, want 1", left)
	}
	c.Leave()
}
