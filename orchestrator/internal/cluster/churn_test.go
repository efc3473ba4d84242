package cluster_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

var churns = flag.Uint64("churns", 30, "the number of random schedules that TestChurn tries")

// TestChurn makes instances crash, stop, continue, lose messages, join and leave in random order, and sets the
// database's clock. run checks all the while that no two instances may act for one shard, and the callbacks that epochs
// only rise and that no instance drives a shard twice. At the end, the shards are spread evenly.
func TestChurn(t *testing.T) {
	for seed := range *churns {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			run(t, func(w *testCluster) {
				w.shards = 12
				c := &churn{testCluster: w, random: rand.New(rand.NewPCG(seed, seed))}
				for range 40 {
					c.step()
					<-time.After(time.Duration(c.random.Int64N(int64(lease) / 2)))
				}
				c.heal()
				w.awaitSpread(3*lease, c.alive...)
			})
		})
	}
}

type churn struct {
	*testCluster

	random *rand.Rand
	alive  []*instance
}

// step does something to one instance.
func (c *churn) step() {
	if len(c.alive) == 0 || len(c.alive) < 5 && c.random.IntN(4) == 0 {
		i := c.start()
		i.mutex.Lock()
		i.slowLost = time.Duration(c.random.Int64N(int64(lease) / 4))
		i.mutex.Unlock()
		c.alive = append(c.alive, i)
		return
	}
	index := c.random.IntN(len(c.alive))
	i := c.alive[index]
	switch c.random.IntN(9) {
	case 0: // It crashes. What it may do until its lease ends counts all the same.
		i.link.set(func(f *faults) { f.failing, f.crashed = true, true })
		i.stop()
		c.alive = append(c.alive[:index:index], c.alive[index+1:]...)
	case 1: // It is told to stop, however its way to the database is.
		i.stop()
		c.alive = append(c.alive[:index:index], c.alive[index+1:]...)
	case 2:
		i.link.set(func(f *faults) { f.stopped = !f.stopped })
	case 3:
		i.link.set(func(f *faults) { f.failing = !f.failing })
	case 4:
		i.link.set(func(f *faults) { f.mute = !f.mute })
	case 5:
		slow := time.Duration(c.random.Int64N(int64(lease) / 3))
		i.link.set(func(f *faults) { f.slow = slow })
	case 6:
		i.link.set(func(f *faults) { f.hang = c.random.IntN(3) })
	case 7:
		if holdings := i.holdings(); len(holdings) > 0 {
			holdings[c.random.IntN(len(holdings))].Fenced()
		}
	case 8:
		c.memory.SetOffset(time.Duration(c.random.Int64N(int64(2*time.Hour))) - time.Hour)
	}
}

// heal ends all faults of the instances that haven't crashed.
func (c *churn) heal() {
	for _, i := range c.instances {
		i.link.set(func(f *faults) {
			if !f.crashed {
				*f = faults{}
			}
		})
	}
	if len(c.alive) == 0 {
		c.alive = append(c.alive, c.start())
	}
}
