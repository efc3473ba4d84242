//go:build unix

package postgres_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/treatyhq/treaty/internal/postgrestest"
	"github.com/treatyhq/treaty/orchestrator/internal/cluster"
)

// childKey makes this test's program a process that leaves a commit open. Its value is an order.
const childKey = "TREATY_CLUSTER_CHILD"

// order says what a child does.
type order struct {
	URL     string `json:"url"`
	Shard   int    `json:"shard"`
	Epoch   uint64 `json:"epoch"`
	Partial bool   `json:"partial"` // The child sends the beginning of the commit, and not its end.
}

func TestMain(m *testing.M) {
	text := os.Getenv(childKey)
	if text == "" {
		os.Exit(m.Run())
	}
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(commitSlowly(context.Background(), o))
}

// commitSlowly begins a commit of member a, says so, and ends it when its input ends.
func commitSlowly(ctx context.Context, o order) error {
	connection, err := pgx.Connect(ctx, o.URL)
	if err != nil {
		return err
	}
	if o.Partial {
		pipeline := connection.PgConn().StartPipeline(ctx)
		pipeline.SendQueryParams(`BEGIN`, nil, nil, nil, nil)
		pipeline.SendQueryParams(`SELECT FROM fences WHERE member = 'a' AND lane = 0 AND NOT fenced FOR SHARE`,
			nil, nil, nil, nil)
		pipeline.SendQueryParams(`INSERT INTO turns VALUES (0, 0)`, nil, nil, nil, nil)
		pipeline.SendFlushRequest()
		if err := pipeline.Flush(); err != nil {
			return err
		}
		for range 3 {
			if _, err := pipeline.GetResults(); err != nil {
				return err
			}
		}
		fmt.Println("open")
		if _, err := io.ReadAll(os.Stdin); err != nil {
			return err
		}
		pipeline.SendQueryParams(`COMMIT`, nil, nil, nil, nil)
		if err := pipeline.Sync(); err != nil {
			return err
		}
		return pipeline.Close()
	}
	c, err := newCommit(ctx, connection, "a", 0, cluster.ShardEpoch{Shard: o.Shard, Epoch: o.Epoch})
	if err != nil {
		return err
	}
	fmt.Println("open")
	if _, err := io.ReadAll(os.Stdin); err != nil {
		return err
	}
	return c.Commit(ctx)
}

// A process is stopped while a commit of it is open. The takeover doesn't wait until the process continues, and then
// the commit fails.
func TestOpenCommit(t *testing.T) {
	for name, partial := range map[string]bool{"between statements": false, "while it sends": true} {
		t.Run(name, func(t *testing.T) {
			d, claims := newOwner(t, postgrestest.Database(t))
			text, err := json.Marshal(order{
				URL:   d.url + "&idle_in_transaction_session_timeout=0",
				Shard: claims[0].Shard, Epoch: claims[0].Epoch, Partial: partial,
			})
			if err != nil {
				t.Fatal(err)
			}
			child := exec.CommandContext(t.Context(), os.Args[0])
			child.Env = append(os.Environ(), childKey+"="+string(text))
			input, err := child.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			pipe, err := child.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			output := bufio.NewReader(pipe)
			if line, err := output.ReadString('\n'); line != "open\n" {
				t.Fatalf("the child says %q, %v", line, err)
			}
			if err := child.Process.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}

			begin := time.Now()
			for fenced := false; !fenced; {
				fenced, err = d.directory.Fence(t.Context(), cluster.Suspect{Member: "a", Silent: true})
				if time.Since(begin) > 10*time.Second {
					t.Fatalf("after %v, the member isn't fenced: %v", time.Since(begin), err)
				}
			}
			t.Logf("fenced after %v", time.Since(begin))
			if err := errors.Join(child.Process.Signal(syscall.SIGCONT), input.Close()); err != nil {
				t.Fatal(err)
			}
			answer, err := output.ReadString('\n')
			if err := errors.Join(err, child.Wait()); err != nil {
				t.Error(err)
			}
			if answer == "<nil>\n" || len(d.turns()) > 0 {
				t.Errorf("a commit of a member that was fenced has landed: %v, error %q", d.turns(), answer)
			}
		})
	}
}
