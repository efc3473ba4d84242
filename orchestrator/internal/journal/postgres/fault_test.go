package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"

	"github.com/treatyhq/treaty/internal/postgrestest"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/journaltest"
)

// faulty breaks connections.
type faulty struct {
	// armed is how many writes are still sent before a connection breaks. It is negative if none breaks.
	armed atomic.Int64
	when  journaltest.When
}

// faultyConn is a connection that breaks before it sends something, or after the other side has answered.
type faultyConn struct {
	net.Conn
	*faulty

	lost atomic.Bool
}

func (c *faultyConn) Write(data []byte) (int, error) {
	if c.armed.Load() < 0 || c.armed.Add(-1) >= 0 {
		return c.Conn.Write(data)
	}
	if c.when == journaltest.BeforeCommit {
		_ = c.Conn.Close()
		return 0, journaltest.ErrInjected
	}
	c.lost.Store(true)
	return c.Conn.Write(data)
}

func (c *faultyConn) Read(data []byte) (int, error) {
	n, err := c.Conn.Read(data)
	if c.lost.Load() && n > 0 {
		_ = c.Conn.Close()
		return 0, journaltest.ErrInjected
	}
	return n, err
}

// TestBrokenConnection breaks the connection before or after a commit. The caller can't tell them apart. Then the store
// reconnects.
func TestBrokenConnection(t *testing.T) {
	url := postgrestest.Database(t)
	for _, test := range []struct {
		name    string
		when    journaltest.When
		writes  int64 // that are sent before
		entry   func(id string) *journal.Entry
		written bool
	}{
		{"a turn, before", journaltest.BeforeCommit, 0, startOf, false},
		{"a turn, after", journaltest.AfterCommit, 0, startOf, true},
		{"an event, before the locks", journaltest.BeforeCommit, 0, eventOf, false},
		{"an event, with the locks", journaltest.AfterCommit, 0, eventOf, false},
		{"an event, before", journaltest.BeforeCommit, 1, eventOf, false},
		{"an event, after", journaltest.AfterCommit, 1, eventOf, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			config, err := parseURL(newSchema(t, url))
			if err != nil {
				t.Fatal(err)
			}
			f := &faulty{when: test.when}
			f.armed.Store(-1)
			dial := config.ConnConfig.DialFunc
			config.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := dial(ctx, network, addr)
				return &faultyConn{Conn: conn, faulty: f}, err
			}
			d, err := connect(t.Context(), config, journal.Opening{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = d.Close() }()
			s, err := d.Shard(t.Context(), takeShard(t, d, newMember(t, d), 0))
			if err != nil {
				t.Fatal(err)
			}
			// Then names are known, and it is connected.
			for _, first := range []*journal.Entry{startOf("first"), eventOf("first")} {
				if err := s.Append(t.Context(), []*journal.Entry{first}); err != nil {
					t.Fatal(err)
				}
			}
			f.armed.Store(test.writes)
			entry := test.entry("new")
			if err := s.Append(t.Context(), []*journal.Entry{entry}); !errors.Is(err, journaltest.ErrInjected) {
				t.Errorf("got the error %v, want ErrInjected", err)
			}
			if written, err := isWritten(t.Context(), s, entry); err != nil || written != test.written {
				t.Errorf("it was written: %t, %v", written, err)
			}
			again := test.entry("new")
			if err := s.Append(t.Context(), []*journal.Entry{again, startOf("next")}); err != nil {
				t.Errorf("after the fault: %v", err)
			}
			if exists := errors.Is(again.Err, journal.ErrExists); exists != (test.written && again.Saga != "") {
				t.Errorf("the entry again: %v", again.Err)
			}
			for i := range 10 {
				if err := s.Append(t.Context(), []*journal.Entry{startOf(fmt.Sprint(i))}); err != nil {
					t.Errorf("after the fault: %v", err)
				}
			}
		})
	}
}

func isWritten(ctx context.Context, s *Shard, entry *journal.Entry) (bool, error) {
	if entry.Saga == "" {
		events, err := s.Events(ctx, journal.EventsParams{Limit: 9})
		return len(events) == 2, err
	}
	_, err := s.Load(ctx, entry.Saga)
	if errors.Is(err, journal.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}
