package postgres_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/treatyhq/treaty/internal/postgres"
)

// child makes this test's program a process that starts a server, says where, and waits to be killed.
const child = "TREATY_POSTGRES_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(child) == "" {
		os.Exit(m.Run())
	}
	server, err := postgres.Start(context.Background(), postgres.Config{Settings: unsafe})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(server.Dir())
	select {}
}

// unsafe are settings for data that nobody will miss.
var unsafe = map[string]string{"fsync": "off"}

func start(t *testing.T, config postgres.Config) *postgres.Server {
	t.Helper()
	server, err := postgres.Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(server.Dir()); !os.IsNotExist(err) {
			t.Errorf("the folder %s is still there: %v", server.Dir(), err)
		}
	})
	return server
}

// query runs a statement, and returns the number that it returns, if any.
func query(ctx context.Context, server *postgres.Server, statement string) (n int, err error) {
	connection, err := pgx.Connect(ctx, server.DSN("postgres"))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, connection.Close(ctx)) }()
	err = connection.QueryRow(ctx, statement).Scan(&n)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return n, err
}

func ask(t *testing.T, server *postgres.Server, statement string) int {
	t.Helper()
	n, err := query(t.Context(), server, statement)
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return n
}

// However a server ends, it starts again with what was committed, at the same address.
func TestLifeOfAServer(t *testing.T) {
	t.Parallel()
	server := start(t, postgres.Config{
		Major: postgres.Oldest, Settings: map[string]string{"application_name": "it's quoted", "log_connections": "on"},
	})
	address := server.Address()
	ask(t, server, "CREATE TABLE t AS SELECT 1 AS n")
	for end, do := range map[string]func(){
		"stopped": func() {
			if err := server.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
		"killed": server.Kill,
	} {
		do()
		if _, err := query(t.Context(), server, "SELECT 1"); err == nil {
			t.Fatalf("the server was %s and answered", end)
		}
		if err := server.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := ask(t, server, "SELECT n FROM t"); n != 1 || server.Address() != address {
			t.Errorf("after the server was %s, the table has %d, and the address is %s instead of %s", end, n,
				server.Address(), address)
		}
	}
	if !strings.Contains(server.Log(), "connection authorized") {
		t.Errorf("log_connections was set, and the log has no connection:\n%s", server.Log())
	}
}

// A paused server answers nobody until it goes on.
func TestPause(t *testing.T) {
	t.Parallel()
	server := start(t, postgres.Config{Major: postgres.Oldest, Settings: unsafe})
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		_, err := query(t.Context(), server, "SELECT 1")
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Errorf("a paused server answered: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Errorf("a server that went on didn't answer: %v", err)
	}
	if err := server.Pause(); err != nil { // Close must end a paused one, too.
		t.Fatal(err)
	}
}

// A synchronous standby has what its server has acknowledged, and takes writes once promoted.
func TestStandby(t *testing.T) {
	for _, major := range []int{postgres.Oldest, postgres.Newest} { // The newest comes from npm, without pg_basebackup.
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			t.Parallel()
			failOver(t, start(t, postgres.Config{Major: major, Settings: unsafe}))
		})
	}
}

func failOver(t *testing.T, server *postgres.Server) {
	t.Helper()
	standby, err := server.Standby(t.Context(), "second", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = standby.Close() })
	ask(t, server, "ALTER SYSTEM SET synchronous_standby_names = 'second'")
	ask(t, server, "SELECT 1 FROM pg_reload_conf()")
	ask(t, server, "CREATE TABLE t AS SELECT 1 AS n")
	if n := ask(t, server, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"); n != 1 {
		t.Errorf("%d standbys are synchronous", n)
	}
	if _, err := query(t.Context(), standby, "CREATE TABLE u (n int)"); err == nil {
		t.Error("a standby took a write")
	}
	server.Kill()
	if err := standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := ask(t, standby, "UPDATE t SET n = n + 1 RETURNING n"); n != 2 {
		t.Errorf("the standby has %d", n)
	}
	if dsn := server.DSN("x", standby); !strings.Contains(dsn, server.Address()+","+standby.Address()+"/x?") {
		t.Errorf("the DSN is %s", dsn)
	}
}

// A server that can't start says why, and leaves nothing behind.
func TestBadSettings(t *testing.T) {
	t.Setenv("TMPDIR", open(t))
	_, err := postgres.Start(t.Context(), postgres.Config{Settings: map[string]string{"no_such_setting": "1"}})
	if err == nil || !strings.Contains(err.Error(), `unrecognized configuration parameter "no_such_setting"`) {
		t.Errorf("got the error %v", err)
	}
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	if err != nil || len(left) > 0 {
		t.Errorf("it left %v behind (error: %v)", left, err)
	}
}

// open returns a temporary folder that everybody can enter.
func open(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "open-") //nolint:usetesting // Nobody else can enter t.TempDir.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Nothing stays behind of a server whose process was killed.
func TestProcessDies(t *testing.T) {
	t.Parallel()
	command := exec.CommandContext(t.Context(), os.Args[0])
	command.Env = append(os.Environ(), child+"=1")
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	dir := strings.TrimSpace(line)
	if err != nil || !filepath.IsAbs(dir) {
		t.Fatalf("the process said %q: %v", line, err)
	}
	file, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, _, _ := strings.Cut(string(file), "\n")
	if err := command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait()
	for _, path := range []string{dir, filepath.Join("/proc", pid)} {
		for ctx := t.Context(); ; {
			if _, err := os.Stat(path); os.IsNotExist(err) {
				break
			}
			select {
			case <-ctx.Done():
				t.Fatalf("%s is still there", path)
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
}
