package postgres_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/treatyhq/treaty/internal/postgres"
	"github.com/treatyhq/treaty/internal/postgrestest"
	"github.com/treatyhq/treaty/orchestrator/internal/cluster"
	directories "github.com/treatyhq/treaty/orchestrator/internal/cluster/postgres"
)

// limit is how long members may take for anything. It only ends tests that hang: machines differ.
const limit = 30 * time.Second

// members are members of one cluster, in real time on a real database.
type members struct {
	t       *testing.T
	shards  int
	changed chan struct{}

	mutex  sync.Mutex
	driven map[int]map[string]bool // the members that drive each shard
	epochs map[int]uint64
}

func newMembers(t *testing.T) *members {
	t.Helper()
	return &members{
		t: t, shards: cluster.DefaultShards, changed: make(chan struct{}, 1),
		driven: make(map[int]map[string]bool), epochs: make(map[int]uint64),
	}
}

// instance is one member.
type instance struct {
	directory *directories.Directory
	stop      context.CancelFunc
	ended     chan struct{}
}

func (m *members) start(d *database) *instance {
	m.t.Helper()
	i := &instance{directory: d.open(), ended: make(chan struct{})}
	member, err := cluster.New(cluster.Config{
		Directory: i.directory,
		Address:   "127.0.0.1:0",
		Acquired:  m.acquire,
		Lost:      m.lose,
		Logger:    slog.New(slog.DiscardHandler),
	})
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(m.t.Context())
	i.stop = cancel
	go func() {
		defer close(i.ended)
		member.Run(ctx)
	}()
	m.t.Cleanup(func() {
		cancel()
		<-i.ended
	})
	return i
}

func (m *members) acquire(_ context.Context, h *cluster.Holding) error {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if h.Epoch <= m.epochs[h.Shard] {
		m.t.Errorf("shard %d is acquired under epoch %d after %d", h.Shard, h.Epoch, m.epochs[h.Shard])
	}
	m.epochs[h.Shard] = h.Epoch
	if m.driven[h.Shard] == nil {
		m.driven[h.Shard] = make(map[string]bool)
	}
	m.driven[h.Shard][h.Member] = true
	m.signal()
	return nil
}

func (m *members) lose(h *cluster.Holding) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	delete(m.driven[h.Shard], h.Member)
	m.signal()
}

func (m *members) signal() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// await waits until each shard is driven by one of so many members, evenly, and returns how long it took.
func (m *members) await(members int) time.Duration {
	m.t.Helper()
	begin := time.Now()
	for !m.even(members) {
		select {
		case <-m.changed:
		case <-time.After(limit):
			m.t.Fatalf("after %v, the shards are driven by %v", limit, m.counts())
		}
	}
	return time.Since(begin)
}

// counts returns how many shards each member drives.
func (m *members) counts() map[string]int {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	counts := make(map[string]int)
	for _, members := range m.driven {
		for member := range members {
			counts[member]++
		}
	}
	return counts
}

func (m *members) even(members int) bool {
	counts, total := m.counts(), 0
	for _, count := range counts {
		if count > (m.shards+members-1)/members {
			return false
		}
		total += count
	}
	return total == m.shards && len(counts) == members
}

// Members join, one is told to stop, and one crashes.
func TestMembers(t *testing.T) {
	postgrestest.Each(t, func(t *testing.T, major int) {
		d := newDatabase(t, postgrestest.DatabaseOn(t, major))
		m := newMembers(t)
		first := m.start(d)
		t.Logf("the first member had all shards after %v", m.await(1))
		second := m.start(d)
		m.start(d)
		t.Logf("three members had their shares after %v", m.await(3))

		first.stop()
		begin := time.Now()
		m.await(2)
		t.Logf("a member handed over in %v", time.Since(begin))
		<-first.ended

		second.directory.Close() // It can't do anything any more.
		t.Logf("the shards of a member that crashed were driven again after %v", m.await(1))
	})
}

// The server crashes for longer than a lease. All members lose their shards, and take them again.
func TestServerCrashes(t *testing.T) {
	server, err := postgres.Start(t.Context(), postgres.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	d := newDatabase(t, server.DSN("postgres"))
	m := newMembers(t)
	m.start(d)
	m.start(d)
	m.await(2)
	server.Kill()
	for len(m.counts()) > 0 {
		select {
		case <-m.changed:
		case <-time.After(limit):
			t.Fatalf("without a database, shards are driven by %v", m.counts())
		}
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("the members had their shares again after %v", m.await(2))
}

// The primary crashes, and its synchronous standby takes over. The members find it by themselves.
func TestFailover(t *testing.T) {
	settings := map[string]string{"synchronous_standby_names": ""}
	server, err := postgres.Start(t.Context(), postgres.Config{Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	standby, err := server.Standby(t.Context(), "second", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = standby.Close() })
	d := newDatabase(t, server.DSN("postgres", standby))
	for _, statement := range []string{
		"ALTER SYSTEM SET synchronous_standby_names = 'second'", "SELECT pg_reload_conf()",
	} {
		if _, err := d.connect().Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	m := newMembers(t)
	m.start(d)
	m.start(d)
	m.await(2)
	server.Kill()
	killed := time.Now()
	if err := standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("promoted %v after the crash", time.Since(killed))
	m.start(d) // The third shows that the directory works again, also if no lease ended meanwhile.
	m.await(3)
	t.Logf("three members had their shares %v after the crash", time.Since(killed))
}

// A lease counts only once the standby has its renewal. No timeout may end the wait for it as if it had succeeded.
func TestRenewalWaitsForStandby(t *testing.T) {
	server, err := postgres.Start(t.Context(), postgres.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	d := newDatabase(t, server.DSN("postgres"))
	_, err = d.directory.Join(t.Context(), cluster.Joining{Member: "a", Lease: time.Hour, Shards: 2, Lanes: 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{
		"ALTER SYSTEM SET synchronous_standby_names = 'absent'", "SELECT pg_reload_conf()",
	} {
		if _, err := d.connect().Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	for names := ""; names != "absent"; { // New connections have it once the server has read its configuration.
		if err := d.connect().QueryRow(t.Context(), "SHOW synchronous_standby_names").Scan(&names); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), cluster.DefaultLease)
	defer cancel()
	if err := d.open().Renew(ctx, "a"); err == nil {
		t.Error("a renewal counts that no standby has")
	}
}
