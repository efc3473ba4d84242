package shards_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/treatyhq/treaty/internal/postgrestest"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/server"
)

// sagas is how many sagas a test starts at once.
const sagas = 24

func subjects(what string) []string {
	all := make([]string, sagas)
	for i := range all {
		all[i] = fmt.Sprintf("applicants/%s-%d", what, i)
	}
	return all
}

// TestInstances lets instances join and leave while sagas wait for events. Events that one publishes wake the sagas of
// all, a saga is found wherever its start is repeated, and each command is executed once.
func TestInstances(t *testing.T) {
	w := newWorld(t, postgrestest.Database(t))
	a := w.join("a")
	a.awaitShards(8)
	ids := make(map[string]string)
	for _, subject := range subjects("first") {
		ids[subject] = a.start(subject)
	}

	b := w.join("b")
	b.awaitShards(4)
	a.awaitShards(4)
	for _, subject := range subjects("second") {
		ids[subject] = b.start(subject)
	}
	elsewhere := 0
	for subject := range ids {
		for _, at := range []*instance{a, b} {
			_, err := at.tryStart(subject)
			if errors.Is(err, journal.ErrElsewhere) {
				elsewhere++
			} else if err != nil {
				t.Errorf("starting %s again: %v", subject, err)
			}
		}
	}
	if elsewhere != len(ids) {
		t.Errorf("%d of %d sagas are found at one instance and not at the other", elsewhere, len(ids))
	}
	for _, subject := range subjects("first") {
		b.publish(subject)
	}
	for _, subject := range subjects("first") {
		w.await(ids[subject], a, b)
	}

	// The other instance goes on with what waits.
	a.stop()
	b.awaitShards(8)
	for _, subject := range subjects("second") {
		b.publish(subject)
	}
	for _, subject := range subjects("second") {
		w.await(ids[subject], b)
	}
	if _, err := a.tryStart("applicants/late"); !errors.Is(err, server.ErrNoShard) {
		t.Errorf("starting a saga without a shard: %v", err)
	}
	if n := len(w.participant.done); n != 2*len(ids) || w.participant.stale != 0 {
		t.Errorf("%d commands of %d sagas were executed, and %d came under a stale epoch", n, len(ids),
			w.participant.stale)
	}
}

// TestCutOff cuts an instance off from the directory, so that its lease ends, while its connection to the store works.
// The other one takes over under higher epochs. The first sends and commits nothing until it has joined again.
func TestCutOff(t *testing.T) {
	w := newWorld(t, postgrestest.Database(t))
	a := w.join("a")
	a.awaitShards(8)
	b := w.join("b")
	b.awaitShards(4)
	a.awaitShards(4)
	ids := make(map[string]string)
	for _, subject := range subjects("cut") {
		ids[subject] = a.start(subject)
	}
	a.cut.Store(true)
	began := time.Now()
	b.awaitShards(8)
	t.Logf("the other instance has taken over after %v, with a lease of 1 s", time.Since(began))
	if _, err := a.tryStart("applicants/late"); err == nil {
		t.Error("the instance starts a saga although its lease has ended")
	}
	for subject := range ids {
		b.publish(subject)
	}
	for _, id := range ids {
		w.await(id, b)
	}
	a.cut.Store(false)
	a.awaitShards(4)
	b.awaitShards(4)
	id := a.start("applicants/again")
	a.publish("applicants/again")
	w.await(id, a)
	if w.participant.stale != 0 {
		t.Errorf("%d commands came under a stale epoch", w.participant.stale)
	}
}
