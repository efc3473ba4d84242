package coroutine_test

import (
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/treatyhq/treaty/orchestrator/internal/coroutine"
)

// observer keeps what it was told.
type observer struct {
	began  chan struct{} // receives each period
	ended  chan struct{}
	mu     sync.Mutex
	left   []coroutine.Place
	misuse []string
}

func observed(g *coroutine.Group) *observer {
	o := &observer{began: make(chan struct{}, 100), ended: make(chan struct{}, 100)}
	g.Observe(o)
	return o
}

func (o *observer) Began() { o.began <- struct{}{} }
func (o *observer) Ended() { o.ended <- struct{}{} }

func (o *observer) Left(where coroutine.Place) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.left = append(o.left, where)
}

func (o *observer) Misused(message string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.misuse = append(o.misuse, message)
}

// interrupt interrupts code once it waits for a channel.
func interrupt(g *coroutine.Group, c *coroutine.Coroutine, began <-chan struct{}) {
	<-began
	for coroutine.ReadStacks().Place(c).State != "chan receive" {
		runtime.Gosched()
	}
	g.Interrupt(g.Period(), coroutine.ReadStacks().Place)
}

// TestTurns checks that a coroutine runs when it is resumed, and at no other time.
func TestTurns(t *testing.T) {
	var g coroutine.Group
	var c coroutine.Coroutine
	var seen []int
	c.Init(&g, func() {
		for i := range 3 {
			seen = append(seen, i)
			c.Yield()
		}
		c.Finish()
	})
	for i := range 4 {
		if len(seen) != i {
			t.Fatalf("after %d turns it has run %d times", i, len(seen))
		}
		want := coroutine.Waits
		if i == 3 {
			want = coroutine.Ended
		}
		if got := c.Resume(); got != want {
			t.Errorf("turn %d: %v, want %v", i, got, want)
		}
	}
}

// TestLeavesBlockedCode interrupts code that blocks. The goroutine that resumed it continues, and hears where the code
// stands. When the code continues, it ends at its next use of the coroutine, even if it recovers from panics, and
// without touching the group.
func TestLeavesBlockedCode(t *testing.T) {
	for name, use := range map[string]func(*coroutine.Coroutine){
		"it yields":  (*coroutine.Coroutine).Yield,
		"it uses it": func(c *coroutine.Coroutine) { c.Use() },
		"it returns": func(*coroutine.Coroutine) {},
		"it exits":   func(*coroutine.Coroutine) { runtime.Goexit() },
	} {
		t.Run(name, func(t *testing.T) {
			var g coroutine.Group
			o := observed(&g)
			blocks, goOn := make(chan struct{}), make(chan struct{})
			var c, twin coroutine.Coroutine
			finished := make(chan bool, 1)
			c.Init(&g, func() {
				defer func() { _ = recover(); finished <- c.Finish() }()
				close(blocks)
				<-goOn
				use(&c)
			})
			go interrupt(&g, &c, blocks)
			if got := c.Resume(); got != coroutine.Left {
				t.Fatalf("it was resumed: %v", got)
			}
			if !c.Behind() || c.Where().State != "chan receive" ||
				!slices.ContainsFunc(c.Where().Frames, func(f runtime.Frame) bool {
					return f.File == "coroutine_test.go" && f.Line > 0
				}) {
				t.Errorf("it stands at %v", c.Where())
			}
			if c.Resume() != coroutine.Left {
				t.Error("it was resumed again")
			}
			twin.Init(&g, func() { close(goOn); <-o.ended; twin.Finish() })
			if got := twin.Resume(); got != coroutine.Ended {
				t.Errorf("the next one: %v", got)
			}
			if <-finished {
				t.Error("the code wasn't told that it was left behind")
			}
			if len(o.left) != 1 || len(o.ended) != 0 {
				t.Errorf("left %d, ended %d more", len(o.left), len(o.ended))
			}
		})
	}
}

// TestHeldCodeLeavesByItself interrupts code between Use and Release, where it may change its saga. It is left behind
// when it releases.
func TestHeldCodeLeavesByItself(t *testing.T) {
	var g coroutine.Group
	o := observed(&g)
	blocks, goOn := make(chan struct{}), make(chan struct{})
	var c coroutine.Coroutine
	changed, continued := false, false
	c.Init(&g, func() {
		defer c.Finish()
		if c.Use() != coroutine.Own {
			return
		}
		close(blocks)
		<-goOn
		changed = true
		g.Release()
		continued = true
	})
	go func() {
		interrupt(&g, &c, blocks)
		close(goOn)
	}()
	if got := c.Resume(); got != coroutine.Left || !changed {
		t.Errorf("got %v, changed %v", got, changed)
	}
	if <-o.ended; continued {
		t.Error("the code continued")
	}
}

// TestInterruptsOnlyThatPeriod interrupts a period that has ended, and one in which no code runs at the moment.
func TestInterruptsOnlyThatPeriod(t *testing.T) {
	var g coroutine.Group
	var c coroutine.Coroutine
	c.Init(&g, func() {
		c.Yield()
		c.Yield()
		c.Finish()
	})
	g.Enter()
	old := g.Period()
	g.Leave()
	g.Enter()
	g.Interrupt(old, nil)
	if got := c.Resume(); got != coroutine.Waits || g.Overdue() {
		t.Errorf("in the next period: %v", got)
	}
	g.Interrupt(g.Period(), nil)
	if got := c.Resume(); got != coroutine.Left || !g.Overdue() || c.Behind() {
		t.Errorf("in the interrupted period: %v", got)
	}
	g.Leave()
	if got := c.Resume(); got != coroutine.Waits {
		t.Errorf("after it: %v", got)
	}
	if got := c.Resume(); got != coroutine.Ended {
		t.Errorf("at the end: %v", got)
	}
}

// TestDetaches checks that code that can only exit its goroutine doesn't take the one along that resumed it.
func TestDetaches(t *testing.T) {
	var g coroutine.Group
	o := observed(&g)
	var c coroutine.Coroutine
	c.Init(&g, func() {
		defer c.Detach()
		runtime.Goexit()
	})
	if got := c.Resume(); got != coroutine.Left {
		t.Errorf("got %v", got)
	}
	<-o.ended
}

// TestKnowsItsGoroutine uses a coroutine on all sorts of goroutines, while it runs.
func TestKnowsItsGoroutine(t *testing.T) {
	var a, b coroutine.Group
	observeA := observed(&a)
	var first, second, sibling, other coroutine.Coroutine
	elsewhere := func(use func() coroutine.Caller) coroutine.Caller {
		caller := make(chan coroutine.Caller)
		go func() { caller <- use() }()
		return <-caller
	}
	check := func(what string, got, want coroutine.Caller) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	sibling.Init(&a, func() { defer sibling.Finish() })
	other.Init(&b, func() {
		defer other.Finish()
		check("a coroutine of another group", first.Use(), coroutine.Other)
		check("its own", other.Use(), coroutine.Own)
		b.Release()
	})
	first.Init(&a, func() {
		defer first.Finish()
		check("its own", first.Use(), coroutine.Own)
		a.Release()
		check("one of its group", sibling.Use(), coroutine.Own)
		a.Release()
		check("a goroutine", elsewhere(first.Use), coroutine.Foreign)
		elsewhere(func() coroutine.Caller { other.Resume(); return 0 })
		check("its own after that", first.Use(), coroutine.Own)
		a.Release()
	})
	first.Resume()
	check("a goroutine afterwards", elsewhere(first.Use), coroutine.Foreign)
	second.Init(&a, func() {
		defer second.Finish()
		check("one that has ended", first.Use(), coroutine.Own) // it may still be read by its saga's code
		a.Release()
	})
	second.Resume()
	first.NoteMisuse("one")
	first.NoteMisuse("two")
	if a.Misuse() != "one" || b.Misuse() != "" || strings.Join(observeA.misuse, " ") != "one" {
		t.Errorf("noted %q and %q", a.Misuse(), observeA.misuse)
	}
}

// TestGoroutineLeftBehindIsNotAnother runs code that was left behind next to another coroutine. Neither is taken for
// the other.
func TestGoroutineLeftBehindIsNotAnother(t *testing.T) {
	var a, b coroutine.Group
	o := observed(&a)
	blocks, goOn := make(chan struct{}), make(chan struct{})
	var left, running coroutine.Coroutine
	var got coroutine.Caller
	left.Init(&a, func() {
		defer left.Finish()
		close(blocks)
		<-goOn
		got = running.Use()
	})
	go interrupt(&a, &left, blocks)
	left.Resume()
	running.Init(&b, func() {
		defer running.Finish()
		close(goOn)
		<-o.ended
		if running.Use() != coroutine.Own {
			t.Error("the one that runs isn't its own")
		}
		b.Release()
	})
	running.Resume()
	if got != coroutine.Other {
		t.Errorf("the code that was left behind is %v", got)
	}
}

// BenchmarkResume measures one turn: a resumption, and a use.
func BenchmarkResume(b *testing.B) {
	var g coroutine.Group
	var c coroutine.Coroutine
	c.Init(&g, func() {
		for {
			c.Use()
			g.Release()
			c.Yield()
		}
	})
	for b.Loop() {
		c.Resume()
	}
}
