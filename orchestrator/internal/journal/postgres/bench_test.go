package postgres

import (
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/postgrestest"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// BenchmarkAppendSagas writes sagas of three steps, with 256 of them in flight: four turns and two rows each, and in
// one variant an event with each turn. Eight callers have 32 sagas each, as shards do. The database is that of
// TREATY_BENCH_POSTGRES if it is set, such as one that flushes to the disk.
func BenchmarkAppendSagas(b *testing.B) {
	for name, publish := range map[string]bool{"plain": false, "events": true} {
		b.Run(name, func(b *testing.B) { benchAppend(b, publish) })
	}
}

func benchAppend(b *testing.B, publish bool) {
	b.Helper()
	const callers, inFlight = 8, 32
	url := os.Getenv("TREATY_BENCH_POSTGRES")
	if url == "" {
		url = postgrestest.Database(b)
	}
	first := openShard(b, newSchema(b, url), 0)
	shards := []*Shard{first}
	for n := 1; n < callers; n++ {
		s, err := first.Shard(b.Context(), takeShard(b, first.Database, first.owned.Member, n))
		if err != nil {
			b.Fatal(err)
		}
		shards = append(shards, s)
	}
	data := make([]byte, 150)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	var before, after syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	for b.Loop() {
		var all sync.WaitGroup
		for _, s := range shards {
			all.Go(func() {
				group := make([]*journal.Entry, inFlight)
				for i := range group {
					group[i] = &journal.Entry{Saga: benchID(), Data: data}
				}
				for turn := uint64(1); turn <= 4; turn++ {
					benchTurn(group, turn)
					if publish {
						benchEvents(group, turn)
					}
					if err := s.Append(b.Context(), group); err != nil {
						b.Error(err)
						return
					}
					for _, entry := range group {
						if entry.Err != nil {
							b.Error(entry.Err)
						}
					}
				}
			})
		}
		all.Wait()
	}
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	sagas := float64(b.N * callers * inFlight)
	b.ReportMetric(float64(b.Elapsed().Microseconds())/sagas, "µs/saga")
	b.ReportMetric(float64(after.Utime.Nano()+after.Stime.Nano()-before.Utime.Nano()-before.Stime.Nano())/1e3/sagas,
		"client-cpu-µs/saga")
	var size int64
	if err := first.pool.QueryRow(b.Context(), `SELECT pg_database_size(current_database())`).Scan(&size); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(size)/sagas, "B/saga")
	if err := first.Close(); err != nil {
		b.Error(err)
	}
}

func benchTurn(group []*journal.Entry, turn uint64) {
	now := time.Now()
	for _, entry := range group {
		entry.Turn, entry.Time, entry.Row = turn, now, nil
		if turn == 1 || turn == 4 {
			entry.Row = &journal.Row{
				ID: entry.Saga, Definition: "acme.card.v1.CardSagas/IssueCard",
				State: treatyv1.SagaState_SAGA_STATE_RUNNING, CreateTime: now, UpdateTime: now,
			}
		}
		if turn == 4 {
			entry.Row.State, entry.Row.EndTime = treatyv1.SagaState_SAGA_STATE_SUCCEEDED, now
		}
	}
}

func benchEvents(group []*journal.Entry, turn uint64) {
	for _, entry := range group {
		entry.Events = []*journal.Event{{
			Source: "sagas/" + entry.Saga, ID: fmt.Sprint(turn), Type: "acme.card.v1.CardIssued", Subject: entry.Saga,
			Time: entry.Time, StoreTime: entry.Time, Data: entry.Data,
		}}
	}
}

func benchID() string {
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:8], uint64(time.Now().UnixMilli())<<16)
	binary.BigEndian.PutUint64(raw[8:], rand.Uint64())
	binary.BigEndian.PutUint16(raw[6:], uint16(rand.Uint32()))
	return "s" + base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(raw[:])
}
