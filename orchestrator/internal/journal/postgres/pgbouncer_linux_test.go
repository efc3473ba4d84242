package postgres

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	servers "github.com/treatyhq/treaty/internal/postgres"
	"github.com/treatyhq/treaty/internal/postgrestest"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/journaltest"
)

// TestPgBouncer writes through PgBouncer in transaction mode, which runs each transaction on any of its connections.
func TestPgBouncer(t *testing.T) {
	pooler := startPgBouncer(t, postgrestest.Database(t))
	t.Run("without the parameter", func(t *testing.T) {
		_, err := Connect(t.Context(), pooler(postgrestest.Database(t), ""), journal.Opening{})
		if err == nil || !strings.Contains(err.Error(), "default_query_exec_mode=cache_describe") {
			t.Errorf("got the error %v, want advice", err)
		}
	})
	for _, mode := range []string{"cache_describe", "exec"} {
		t.Run(mode, func(t *testing.T) {
			journaltest.ExerciseWriters(t, func(t *testing.T) journaltest.Writers {
				database := postgrestest.Database(t)
				var shards [2]*Shard
				for n := range shards {
					shards[n] = openShard(t, pooler(database, mode), n)
					t.Cleanup(func() { _ = shards[n].Close() })
				}
				return journaltest.Writers{
					Stores:  [2]journal.Store{shards[0], shards[1]},
					Hold:    func(store int) (<-chan struct{}, func()) { return hold(shards[store]) },
					Blocked: func(done <-chan struct{}) bool { return blocked(t, shards[0], done) },
				}
			})
		})
	}
}

// startPgBouncer starts PgBouncer in front of the server of a database. It returns a function that makes a URL go
// through it.
func startPgBouncer(t *testing.T, database string) func(database, mode string) string {
	t.Helper()
	program, err := servers.PgBouncer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	server, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := server.User.Password()
	dir, err := os.MkdirTemp("", "pgbouncer") //nolint:usetesting // Its user can't reach t.TempDir.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().(*net.TCPAddr)
	_ = free.Close()
	config := filepath.Join(dir, "pgbouncer.ini")
	for name, text := range map[string]string{
		"users": fmt.Sprintf("%q %q\n", server.User.Username(), password),
		"pgbouncer.ini": fmt.Sprintf("[databases]\n* = host=%s port=%s\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"+
			"listen_port = %d\nunix_socket_dir =\nauth_type = plain\nauth_file = %s\npool_mode = transaction\n"+
			"default_pool_size = 6\nmax_client_conn = 200\n",
			server.Hostname(), server.Port(), address.Port, filepath.Join(dir, "users")),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.Command(program, config)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Getuid() == 0 { // PgBouncer refuses root
		become(t, command, dir)
	}
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = command.Wait()
	}()
	t.Cleanup(func() {
		_ = command.Process.Kill()
		<-ended
	})
	for {
		conn, err := net.Dial("tcp", address.String())
		if err == nil {
			_ = conn.Close()
			break
		}
		select {
		case <-ended:
			t.Fatalf("PgBouncer ended: %s", output.String())
		case <-time.After(10 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal(context.Cause(t.Context()))
		}
	}
	return func(database, mode string) string {
		return changed(t, database, func(u *url.URL) {
			u.Host = address.String()
			if mode != "" {
				u.RawQuery += "&default_query_exec_mode=" + mode
			}
		})
	}
}

// become makes a command run as nobody, who gets a directory.
func become(t *testing.T, command *exec.Cmd, dir string) {
	t.Helper()
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(nobody.Uid)
	gid, _ := strconv.Atoi(nobody.Gid)
	command.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	for _, path := range []string{dir, filepath.Join(dir, "users"), filepath.Join(dir, "pgbouncer.ini")} {
		if err := os.Chown(path, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
}
