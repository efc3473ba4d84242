package admission_test

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/admission"
)

// service is a participant in virtual time. It executes whatever arrives, first come first served, with some workers.
// It neither notices when its caller has given up, nor that it has executed a command already.
type service struct {
	work chan func()
	took func() time.Duration
}

func newService(workers int, took func() time.Duration) *service {
	s := &service{work: make(chan func(), 1<<20), took: took}
	for range workers {
		go func() {
			for done := range s.work {
				<-time.After(s.took())
				done()
			}
		}()
	}
	return s
}

// call returns whether the answer came before the timeout.
func (s *service) call(timeout time.Duration) bool {
	answered := make(chan struct{})
	s.work <- func() { close(answered) }
	select {
	case <-answered:
		return true
	case <-time.After(timeout):
		return false
	}
}

// client sends commands through a controller, and repeats those that time out.
type client struct {
	controller *admission.Controller
	calls      chan bool // whether each attempt was answered
}

func (c *client) send(s *service, m *admission.Method, timeout time.Duration, claim admission.Claim) {
	run := func(slot *admission.Slot) {
		slot.Begin()
		answered := s.call(timeout)
		if answered {
			slot.End(admission.Answered, 0)
		} else {
			slot.End(admission.TimedOut, 0)
			time.AfterFunc(100*time.Millisecond, func() { c.send(s, m, timeout, claim) })
		}
		c.calls <- answered
	}
	if slot, _ := c.controller.Admit(m, claim, func(slot *admission.Slot) { go run(slot) }); slot != nil {
		go run(slot)
	}
}

// Many commands at once end about as fast as the participant can execute them, and hardly any is sent twice.
func TestOverload(t *testing.T) {
	constant := func(d time.Duration) func() time.Duration { return func() time.Duration { return d } }
	for _, test := range []struct {
		name     string
		commands int
		workers  int
		took     func() time.Duration
		timeout  time.Duration
		capacity float64 // commands per second
	}{
		{"one worker", 8000, 1, constant(5 * time.Millisecond), 10 * time.Second, 200},
		{"a short timeout", 8000, 1, constant(5 * time.Millisecond), 500 * time.Millisecond, 200},
		{"many workers", 8000, 16, constant(80 * time.Millisecond), 2 * time.Second, 200},
		{
			"a slow method", 20000, 400, func() time.Duration {
				return 500*time.Millisecond + rand.N(time.Second)
			}, 4 * time.Second, 400,
		},
		{"a fast service", 100000, 8, constant(200 * time.Microsecond), 10 * time.Second, 40000},
		{"a slow service", 1000, 1, constant(50 * time.Millisecond), 10 * time.Second, 20},
		{
			"calls that take longer now and then", 20000, 32, func() time.Duration {
				if rand.IntN(50) == 0 {
					return time.Second
				}
				return 20 * time.Millisecond
			}, 3 * time.Second, 32 / (0.98*0.02 + 0.02*1),
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newService(test.workers, test.took)
				defer close(s.work)
				c := &client{admission.New(admission.Params{}), make(chan bool)}
				m := c.controller.NewMethod(test.timeout)
				start := time.Now()
				for range test.commands {
					c.send(s, m, test.timeout, admission.Claim{Definition: "a", Start: start})
				}
				attempts, most := 0, 0
				for ended := 0; ended < test.commands; attempts++ {
					most = max(most, c.controller.State().InFlight)
					if <-c.calls {
						ended++
					}
				}
				goodput := float64(test.commands) / time.Since(start).Seconds()
				repeated := 100 * float64(attempts-test.commands) / float64(test.commands)
				t.Logf("%.0f of %.0f commands per second, %.2f%% sent twice, at most %d in flight, limit %d",
					goodput, test.capacity, repeated, most, c.controller.State().Limit)
				if goodput < 0.8*test.capacity {
					t.Errorf("%.0f commands per second, want at least 80%% of %.0f", goodput, test.capacity)
				}
				if repeated >= 1 {
					t.Errorf("%.2f%% of the commands were sent twice, want less than 1%%", repeated)
				}
			})
		})
	}
}

// hang is a method whose calls are never answered, at a participant whose other methods work.
func TestHangingMethod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const timeout = time.Second
		controller := admission.New(admission.Params{})
		works := newService(1, func() time.Duration { return 5 * time.Millisecond })
		hangs := newService(0, nil)
		defer close(works.work)
		good := &client{controller, make(chan bool)}
		bad := &client{controller, make(chan bool, 1<<20)}
		working, hanging := controller.NewMethod(timeout), controller.NewMethod(timeout)
		for range 1000 {
			bad.send(hangs, hanging, timeout, admission.Claim{Definition: "bad"})
		}
		start := time.Now()
		for range 4000 {
			good.send(works, working, timeout, admission.Claim{Definition: "good"})
		}
		for range 4000 {
			if !<-good.calls {
				t.Fatal("a call of the method that works timed out")
			}
		}
		if took := time.Since(start); took > 25*time.Second {
			t.Errorf("4000 commands at 200 per second took %s, want at most 25 s", took)
		}
		// Once the limit of the method has adapted, there is one call in each second.
		before := len(bad.calls)
		<-time.After(100 * time.Second)
		if calls := len(bad.calls) - before; calls > 110 {
			t.Errorf("%d calls of the hanging method within 100 s, want about 100", calls)
		}
		controller.Close()
		<-time.After(time.Minute)
	})
}

// When a participant suddenly executes only a tenth, its calls don't time out for long.
func TestSlowsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var slow atomic.Bool
		s := newService(1, func() time.Duration {
			if slow.Load() {
				return 50 * time.Millisecond
			}
			return 5 * time.Millisecond
		})
		defer close(s.work)
		const timeout = 2 * time.Second
		c := &client{admission.New(admission.Params{}), make(chan bool)}
		m := c.controller.NewMethod(timeout)
		for range 8000 {
			c.send(s, m, timeout, admission.Claim{Definition: "a"})
		}
		attempts := 0
		for ended := 0; ended < 8000; attempts++ {
			if <-c.calls {
				ended++
			}
			if ended == 4000 {
				slow.Store(true)
			}
		}
		t.Logf("%d attempts for 8000 commands", attempts)
		if attempts > 8000+500 {
			t.Errorf("%d attempts, want at most 500 more than 8000", attempts)
		}
	})
}

// The order in which commands that wait get their slots.
func TestOrder(t *testing.T) {
	at := func(seconds int) time.Time { return time.Unix(int64(seconds), 0) }
	type command struct {
		name  string
		claim admission.Claim
	}
	for _, test := range []struct {
		name     string
		commands []command
		want     string
	}{
		{"by the starts of their sagas", []command{
			{"1", admission.Claim{Class: admission.First, Definition: "a", Start: at(3)}},
			{"2", admission.Claim{Class: admission.First, Definition: "a", Start: at(1)}},
			{"3", admission.Claim{Class: admission.First, Definition: "a", Start: at(2)}},
		}, "231"},
		{"in their order if the sagas started at once", []command{
			{"1", admission.Claim{Definition: "a"}}, {"2", admission.Claim{Definition: "a"}},
			{"3", admission.Claim{Definition: "a"}}, {"4", admission.Claim{Definition: "a"}},
		}, "1234"},
		{"undos, then sagas that have begun, then new ones", []command{
			{"1", admission.Claim{Class: admission.First, Definition: "a", Start: at(1)}},
			{"2", admission.Claim{Class: admission.Begun, Definition: "a", Start: at(2)}},
			{"3", admission.Claim{Class: admission.Undo, Definition: "a", Start: at(3)}},
		}, "321"},
		{"definitions take turns", []command{
			{"1", admission.Claim{Definition: "a", Start: at(1)}},
			{"2", admission.Claim{Definition: "a", Start: at(1)}},
			{"3", admission.Claim{Definition: "a", Start: at(1)}},
			{"4", admission.Claim{Definition: "b", Start: at(9)}},
			{"5", admission.Claim{Definition: "b", Start: at(9)}},
		}, "14253"},
	} {
		t.Run(test.name, func(t *testing.T) {
			controller := admission.New(admission.Params{Ceiling: 1})
			m := controller.NewMethod(time.Second)
			slot, _ := controller.Admit(m, admission.Claim{}, nil)
			got := ""
			var last *admission.Slot
			for _, command := range test.commands {
				_, wait := controller.Admit(m, command.claim, func(slot *admission.Slot) {
					got += command.name
					last = slot
				})
				if wait == nil {
					t.Fatal("there was a slot above the ceiling")
				}
			}
			for ; slot != nil; slot, last = last, nil {
				slot.Release()
			}
			if got != test.want {
				t.Errorf("the order is %s, want %s", got, test.want)
			}
			if state := controller.State(); state.InFlight != 0 || state.Waiting != 0 {
				t.Errorf("at the end: %+v", state)
			}
		})
	}
}

func TestCancel(t *testing.T) {
	controller := admission.New(admission.Params{Ceiling: 1})
	m := controller.NewMethod(time.Second)
	slot, _ := controller.Admit(m, admission.Claim{}, nil)
	_, cancelled := controller.Admit(m, admission.Claim{}, func(*admission.Slot) { t.Error("a cancelled wait ended") })
	var second *admission.Slot
	_, wait := controller.Admit(m, admission.Claim{}, func(slot *admission.Slot) { second = slot })
	cancelled.Cancel()
	cancelled.Cancel()
	slot.Release()
	if second == nil {
		t.Fatal("the next command got no slot")
	}
	wait.Cancel() // too late, and without effect
	second.Release()
	if state := controller.State(); state.InFlight != 0 || state.Waiting != 0 {
		t.Errorf("at the end: %+v", state)
	}
}

// While a participant is held, nothing is sent, and one function is woken for all.
func TestHold(t *testing.T) {
	var wake func()
	held, asked := true, 0
	controller := admission.New(admission.Params{Ceiling: 8, Hold: func(f func()) bool {
		asked++
		wake = f
		return held
	}})
	m := controller.NewMethod(time.Second)
	sent := 0
	for range 20 {
		slot, wait := controller.Admit(m, admission.Claim{}, func(*admission.Slot) { sent++ })
		if slot != nil || !wait.Long {
			t.Fatal("a command of a participant that is held got a slot, or waits a short time")
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times, want once", asked)
	}
	held = false
	wake()
	if sent != 8 {
		t.Errorf("%d commands were sent, want 8, the ceiling", sent)
	}
}

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		controller := admission.New(admission.Params{PerSecond: 10})
		m := controller.NewMethod(time.Second)
		ended := make(chan struct{})
		end := func(slot *admission.Slot) {
			slot.Release()
			ended <- struct{}{}
		}
		start := time.Now()
		for range 100 {
			if slot, _ := controller.Admit(m, admission.Claim{}, func(s *admission.Slot) { go end(s) }); slot != nil {
				go end(slot)
			}
		}
		for range 100 {
			<-ended
		}
		if took := time.Since(start); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("100 commands at 10 per second took %s", took)
		}
	})
}

// A participant that asks to wait gets nothing until then, also of other methods.
func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		controller := admission.New(admission.Params{})
		one, other := controller.NewMethod(time.Second), controller.NewMethod(time.Second)
		slot, _ := controller.Admit(one, admission.Claim{}, nil)
		slot.Begin()
		slot.End(admission.Answered, 3*time.Second)
		start, granted := time.Now(), make(chan struct{})
		early, _ := controller.Admit(other, admission.Claim{}, func(*admission.Slot) { close(granted) })
		if early != nil {
			t.Fatal("a command was admitted at once")
		}
		<-granted
		if waited := time.Since(start); waited != 3*time.Second {
			t.Errorf("it waited %s, want 3s", waited)
		}
	})
}

// Calls that are held on purpose neither lower the limit nor are limited by it.
func TestHeldCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		controller := admission.New(admission.Params{Ceiling: 100})
		held := controller.NewHeldMethod()
		var slots []*admission.Slot
		for range 100 {
			slot, _ := controller.Admit(held, admission.Claim{}, nil)
			if slot == nil {
				t.Fatalf("only %d calls were admitted", len(slots))
			}
			slot.Begin()
			slots = append(slots, slot)
		}
		<-time.After(time.Hour)
		for _, slot := range slots {
			slot.End(admission.TimedOut, 0)
		}
		if limit := controller.State().Limit; limit < 32 {
			t.Errorf("the limit is %d, want it unchanged", limit)
		}
	})
}

// The commands of a parked method wait, and no others. Nobody takes them for a sign of overload.
func TestPark(t *testing.T) {
	controller := admission.New(admission.Params{Ceiling: 8})
	parked, other := controller.NewMethod(time.Second), controller.NewMethod(time.Second)
	controller.Park(parked)
	granted := make(chan *admission.Slot, 1)
	claim := admission.Claim{Class: admission.First, Definition: "a"}
	slot, wait := controller.Admit(parked, claim, func(slot *admission.Slot) { granted <- slot })
	if slot != nil || !wait.Held() || !wait.Long {
		t.Fatalf("a parked method got the slot %v and the wait %+v", slot, wait)
	}
	if _, waits := controller.FirstWaitsSince("a"); waits {
		t.Error("a command of a parked method counts as one that waits for others")
	}
	if slot, _ := controller.Admit(other, claim, nil); slot == nil {
		t.Error("another method waits")
	}
	controller.Resume(parked)
	if slot := <-granted; slot == nil || wait.Held() {
		t.Errorf("after it was resumed: slot %v, held %t", slot, wait.Held())
	}
}
