package sqlite

import (
	"encoding/base32"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// benchGroup is the number of turns in a commit.
const benchGroup = 256

// bench is a store in a benchmark. Its sagas look like those of an orchestrator.
type bench struct {
	*testing.B

	store *Store
	path  string
	data  []byte
	made  uint64
	group []*journal.Entry
}

func newBench(b *testing.B) *bench {
	b.Helper()
	path := filepath.Join(b.TempDir(), "sagas.db")
	store := openAt(b, path)
	data := make([]byte, 150)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	s := &bench{B: b, store: store, path: path, data: data}
	for range benchGroup {
		s.group = append(s.group, new(journal.Entry))
	}
	return s
}

// append writes a turn of every saga in the group, and a row unless the state is 0.
func (s *bench) append(turn uint64, state treatyv1.SagaState, labels map[string]string) {
	s.Helper()
	now := time.Now()
	for _, entry := range s.group {
		if turn == 1 {
			s.made++
			entry.Saga = benchID(now)
		}
		entry.Turn, entry.Data, entry.Row = turn, s.data, nil
		if state != 0 {
			entry.Row = &journal.Row{
				ID: entry.Saga, Definition: "acme.card.v1.CardSagas/IssueCard", State: state, Labels: labels,
				CreateTime: now, UpdateTime: now,
			}
			if journal.Final(state) {
				entry.Row.EndTime = now
			}
		}
	}
	if err := s.store.Append(s.Context(), s.group); err != nil {
		s.Fatal(err)
	}
	for _, entry := range s.group {
		if entry.Err != nil {
			s.Fatal(entry.Err)
		}
	}
}

// saga writes a group of sagas with three steps: four turns and two rows each.
func (s *bench) saga(labels map[string]string) {
	s.append(1, treatyv1.SagaState_SAGA_STATE_RUNNING, labels)
	s.append(2, 0, nil)
	s.append(3, 0, nil)
	s.append(4, treatyv1.SagaState_SAGA_STATE_SUCCEEDED, labels)
}

// size closes the store and returns the size of its file.
func (s *bench) size() float64 {
	s.Helper()
	if err := s.store.Close(); err != nil {
		s.Fatal(err)
	}
	info, err := os.Stat(s.path)
	if err != nil {
		s.Fatal(err)
	}
	return float64(info.Size())
}

func benchID(now time.Time) string {
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:8], uint64(now.UnixMilli())<<16)
	binary.BigEndian.PutUint64(raw[8:], rand.Uint64())
	binary.BigEndian.PutUint16(raw[6:], uint16(rand.Uint32()))
	return "s" + base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(raw[:])
}

func BenchmarkAppendTurns(b *testing.B) {
	s := newBench(b)
	s.append(1, treatyv1.SagaState_SAGA_STATE_RUNNING, nil)
	turn := uint64(1)
	for b.Loop() {
		turn++
		s.append(turn, 0, nil)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*benchGroup), "µs/turn")
	b.ReportMetric(s.size()/float64(turn*benchGroup), "B/turn")
}

func BenchmarkAppendSagas(b *testing.B) {
	for name, labels := range map[string]map[string]string{"plain": nil, "labels=1": {"customer": "c-1234567"}} {
		b.Run(name, func(b *testing.B) {
			s := newBench(b)
			for b.Loop() {
				s.saga(labels)
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*benchGroup), "µs/saga")
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*benchGroup*4), "µs/turn")
			b.ReportMetric(s.size()/float64(s.made), "B/saga")
		})
	}
}

// BenchmarkRawInserts measures the same rows without the store: one table with an integer key, in groups of the same
// size.
func BenchmarkRawInserts(b *testing.B) {
	s := newBench(b)
	w := s.store.writer
	if err := w.conn.Exec(`CREATE TABLE raw (position INTEGER PRIMARY KEY, data BLOB NOT NULL)`); err != nil {
		b.Fatal(err)
	}
	insert, err := prepare(w.conn, `INSERT INTO raw VALUES (?, ?)`)
	if err != nil {
		b.Fatal(err)
	}
	at := int64(0)
	for b.Loop() {
		if err := w.begin.Exec(); err != nil {
			b.Fatal(err)
		}
		for range benchGroup {
			at++
			_ = insert.BindInt64(1, at)
			_ = insert.BindBlob(2, s.data)
			if err := insert.Exec(); err != nil {
				b.Fatal(err)
			}
		}
		if err := w.commit.Exec(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*benchGroup), "µs/turn")
	b.ReportMetric(s.size()/float64(at), "B/turn")
}
