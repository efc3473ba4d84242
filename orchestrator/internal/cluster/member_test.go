package cluster_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/cluster"
)

func TestSharesAreEven(t *testing.T) {
	for count := 1; count <= 5; count++ {
		run(t, func(w *testCluster) {
			instances := w.startAll(count)
			settled := w.acquisitions()
			<-time.After(time.Minute)
			if now := w.acquisitions(); now != settled {
				t.Errorf("%d members that nothing happens to have moved %d shards", count, now-settled)
			}
			if !w.spread(instances) {
				t.Errorf("the shards aren't spread evenly over %d members any more", count)
			}
		})
	}
}

func TestJoin(t *testing.T) {
	run(t, func(w *testCluster) {
		instances := w.startAll(3)
		before := w.acquisitions()
		instances = append(instances, w.start())
		if took := w.awaitSpread(time.Second, instances...); took > 4*poll {
			t.Errorf("it took %v until the new member had its share", took)
		}
		if moved := w.acquisitions() - before; moved > shards/4+3 {
			t.Errorf("%d shards were moved for a new member that needs %d", moved, shards/4)
		}
	})
}

// A member that is told to stop hands over without waiting for its lease, each shard as soon as it is ready.
func TestHandOver(t *testing.T) {
	run(t, func(w *testCluster) {
		instances := w.startAll(3)
		leaving := instances[0]
		leaving.slowLost = 50 * time.Millisecond
		for _, i := range instances {
			i.link.set(func(f *faults) { f.slow = 2 * time.Millisecond })
		}
		leaving.stop()
		if took := w.awaitSpread(time.Second, instances[1:]...); took > 250*time.Millisecond {
			t.Errorf("the hand-over took %v", took)
		}
		<-leaving.ended
		<-time.After(2 * poll)
		if view := instances[1].member.View(); len(view.Members) != 2 {
			t.Errorf("members %+v after one has left", view.Members)
		}
	})
}

func TestLastMemberLeaves(t *testing.T) {
	run(t, func(w *testCluster) {
		last := w.startAll(1)[0]
		last.stop()
		<-last.ended
		first := w.start()
		if took := w.awaitSpread(time.Second, first); took > poll {
			t.Errorf("the next member waited %v for shards that were free", took)
		}
	})
}

func TestCrash(t *testing.T) {
	run(t, func(w *testCluster) {
		instances := w.startAll(3)
		instances[0].link.set(func(f *faults) { f.failing = true })
		// run checks that nobody takes over while the crashed instance could still act.
		if took := w.awaitSpread(2*lease, instances[1:]...); took > lease+2*poll {
			t.Errorf("it took %v until others had the shards", took)
		}
	})
}

// An instance that was stopped past its lease may not act from the moment on which it continues.
func TestStoppedProcess(t *testing.T) {
	run(t, func(w *testCluster) {
		instances := w.startAll(3)
		stopped := instances[0]
		held, before := stopped.holdings(), stopped.lostCount()
		stopped.link.set(func(f *faults) { f.stopped = true })
		w.awaitSpread(2*lease, instances[1:]...)
		<-time.After(lease)
		stopped.link.set(func(f *faults) { f.stopped = false })
		for _, h := range held {
			if h.Valid() {
				t.Fatalf("shard %d is valid after a stop", h.Shard)
			}
			if w.memory.Commit(h.Member, h.ShardEpoch) {
				t.Fatalf("a commit of shard %d lands after the takeover", h.Shard)
			}
		}
		w.awaitSpread(lease, instances...)
		if lost := stopped.lostCount() - before; lost != len(held) {
			t.Errorf("%d shards were ended, %d were held", lost, len(held))
		}
	})
}

// While a machine sleeps, the timers of its processes stand still. The lease doesn't.
func TestSleepingMachine(t *testing.T) {
	run(t, func(w *testCluster) {
		i := w.startAll(1)[0]
		held := i.holdings()
		synctest.Wait()
		before := i.lostCount()
		w.memory.SetOffset(time.Hour)
		i.offset.Store(int64(time.Hour))
		for _, h := range held {
			if h.Valid() {
				t.Fatalf("shard %d is valid after the machine has slept", h.Shard)
			}
		}
		<-time.After(poll + time.Millisecond)
		if lost := i.lostCount() - before; lost != shards {
			t.Errorf("%d shards were lost in the first look after a sleep, want %d", lost, shards)
		}
		w.awaitSpread(lease, i)
	})
}

func TestLostRenewals(t *testing.T) {
	run(t, func(w *testCluster) {
		instances := w.startAll(2)
		cut, moved := instances[0], w.acquisitions()
		cut.link.set(func(f *faults) { f.failing = true })
		<-time.After(lease / 2)
		cut.link.set(func(f *faults) { f.failing = false })
		<-time.After(2 * lease)
		if w.acquisitions() != moved {
			t.Error("shards were lost although the lease was renewed in time")
		}

		// It can't renew, but it can do everything else, and so join again.
		held := cut.holdings()
		cut.link.set(func(f *faults) { f.renewal = errLink })
		<-time.After(lease)
		for _, h := range held {
			if h.Valid() {
				t.Errorf("shard %d is valid although the lease couldn't be renewed", h.Shard)
			}
		}
		cut.link.set(func(f *faults) { f.renewal = nil })
		w.awaitSpread(2*lease, instances...)
	})
}

// Nobody has fenced an instance that couldn't renew, since there was nobody else. It takes its shards again all the
// same under new epochs; acquire checks that.
func TestOnlyMemberLosesItsLease(t *testing.T) {
	run(t, func(w *testCluster) {
		i := w.startAll(1)[0]
		i.link.set(func(f *faults) { f.failing = true })
		<-time.After(lease)
		if i.valid() > 0 || i.lostCount() != shards {
			t.Errorf("%d shards are valid, and %d were lost", i.valid(), i.lostCount())
		}
		i.link.set(func(f *faults) { f.failing = false })
		if took := w.awaitSpread(lease, i); took > lease/3 {
			t.Errorf("it took %v until the instance had its shards again", took)
		}
	})
}

func TestHangingRenewal(t *testing.T) {
	run(t, func(w *testCluster) {
		i := w.startAll(1)[0]
		i.link.set(func(f *faults) { f.hang = 1 })
		<-time.After(3 * lease)
		if i.lostCount() > 0 {
			t.Error("one renewal that hangs has cost the lease")
		}
	})
}

// A database whose answers take longer than the time between two renewals costs nobody the lease.
func TestSlowDatabase(t *testing.T) {
	run(t, func(w *testCluster) {
		instances := w.startAll(3)
		moved := w.acquisitions()
		for _, i := range instances {
			i.link.set(func(f *faults) { f.slow = lease / 4 })
		}
		<-time.After(time.Minute)
		if now := w.acquisitions(); now != moved {
			t.Errorf("%d shards were moved", now-moved)
		}
	})
}

// The database's clock is set, forward as by a failover to a server whose clock is ahead, or back.
func TestDatabaseClockJumps(t *testing.T) {
	for name, jump := range map[string]time.Duration{"forward": time.Hour, "back": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			run(t, func(w *testCluster) {
				instances := w.startAll(3)
				moved := w.acquisitions()
				w.memory.SetOffset(jump)
				<-time.After(time.Minute)
				if w.acquisitions() != moved {
					t.Error("members that are well have lost shards")
				}

				instances[0].link.set(func(f *faults) { f.failing = true })
				w.memory.SetOffset(2 * jump)
				if took := w.awaitSpread(3*lease, instances[1:]...); took > 2*lease {
					t.Errorf("it took %v until others had the shards of a crashed member", took)
				}
			})
		})
	}
}

// A member that has just started hasn't seen the database's clock before, and can't know that it was set forward.
func TestStartAfterClockJump(t *testing.T) {
	run(t, func(w *testCluster) {
		instances := w.startAll(2)
		before := instances[0].member.View()
		w.memory.SetOffset(time.Hour)
		instances = append(instances, w.start())
		w.awaitSpread(lease, instances...)
		<-time.After(lease)
		view := instances[0].member.View()
		for _, member := range before.Members {
			if _, still := view.Member(member.ID); !still {
				t.Errorf("member %s, which is well, was fenced by one that has just started", member.ID)
			}
		}
	})
}

func TestAllCrash(t *testing.T) {
	run(t, func(w *testCluster) {
		for _, i := range w.startAll(3) {
			i.link.set(func(f *faults) { f.failing = true })
			i.stop()
		}
		<-time.After(time.Hour)
		if took := w.awaitSpread(2*lease, w.start()); took > lease+2*poll {
			t.Errorf("it took %v until a new member had all shards", took)
		}
	})
}

// The answer to a claim is lost. The shards are this member's, and it doesn't know under which epoch.
func TestClaimWithoutAnswer(t *testing.T) {
	run(t, func(w *testCluster) {
		i := w.start()
		i.link.set(func(f *faults) { f.mute = true })
		<-time.After(lease / 4)
		i.link.set(func(f *faults) { f.mute = false })
		w.awaitSpread(2*lease, i)
	})
}

func TestAcquiringFails(t *testing.T) {
	run(t, func(w *testCluster) {
		i := w.start()
		i.mutex.Lock()
		i.refuse = 3 * shards
		i.mutex.Unlock()
		if took := w.awaitSpread(5*lease, i); took < lease {
			t.Errorf("the instance tried four times in %v", took)
		}
	})
}

// A commit was refused because of its epoch. The shard is ended, and begun again by whoever claims it.
func TestFencedCommit(t *testing.T) {
	run(t, func(w *testCluster) {
		i := w.startAll(1)[0]
		h := i.holdings()[0]
		h.Fenced()
		if h.Valid() {
			t.Error("a shard is valid after a commit was fenced")
		}
		w.awaitSpread(lease, i)
		if i.lostCount() != 1 {
			t.Errorf("%d shards were lost, want 1", i.lostCount())
		}
	})
}

// An instance that has lost a shard and gets it again doesn't drive it twice while the first one is still ending; the
// callbacks check that.
func TestSlowEnd(t *testing.T) {
	run(t, func(w *testCluster) {
		i := w.startAll(1)[0]
		i.mutex.Lock()
		i.slowLost = 3 * lease
		i.mutex.Unlock()
		i.link.set(func(f *faults) { f.failing = true })
		<-time.After(lease)
		i.link.set(func(f *faults) { f.failing = false })
		if took := w.awaitSpread(5*lease, i); took < 2*lease {
			t.Errorf("the shards were begun again after %v, before they had ended", took)
		}
	})
}

func TestStopWithoutDatabase(t *testing.T) {
	run(t, func(w *testCluster) {
		joined, waiting := w.startAll(1)[0], w.start()
		joined.link.set(func(f *faults) { f.failing = true })
		waiting.link.set(func(f *faults) { f.failing = true })
		<-time.After(lease)
		begin := time.Now()
		joined.stop()
		waiting.stop()
		<-joined.ended
		<-waiting.ended
		if took := time.Since(begin); took > lease {
			t.Errorf("it took %v to stop", took)
		}
	})
}

func TestConfig(t *testing.T) {
	for name, change := range map[string]func(*cluster.Config){
		"no directory":          func(c *cluster.Config) { c.Directory = nil },
		"no way to begin":       func(c *cluster.Config) { c.Acquired = nil },
		"no way to end":         func(c *cluster.Config) { c.Lost = nil },
		"negative shards":       func(c *cluster.Config) { c.Shards = -1 },
		"negative lanes":        func(c *cluster.Config) { c.Lanes = -1 },
		"short lease":           func(c *cluster.Config) { c.Lease = time.Microsecond },
		"negative poll":         func(c *cluster.Config) { c.Poll = -1 },
		"one renewal per lease": func(c *cluster.Config) { c.Renewal = cluster.DefaultLease / 2 },
	} {
		t.Run(name, func(t *testing.T) {
			i := &instance{}
			config := cluster.Config{Directory: &link{}, Acquired: i.acquire, Lost: i.lose}
			if _, err := cluster.New(config); err != nil {
				t.Fatal(err)
			}
			change(&config)
			if _, err := cluster.New(config); err == nil {
				t.Error("no error")
			}
		})
	}
}
