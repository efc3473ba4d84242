package inbox_test

import (
	"bufio"
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/treatyhq/treaty/participant"
)

func timeUnix(seconds int64) time.Time { return time.Unix(seconds, 0) }

// TestInterleavings lets attempts, duplicates and compensations of the same commands race each other.
func TestInterleavings(t *testing.T) { each(t, interleavings) }

func interleavings(t *testing.T, b backend) {
	t.Helper()
	s := b.fresh(t)
	const sagas, callers = 40, 8
	undone := make([]bool, sagas)
	var wg sync.WaitGroup
	for saga := range sagas {
		id := fmt.Sprintf("sagas/r%d/steps/1", saga)
		undone[saga] = saga%4 != 0
		start := make(chan struct{})
		for caller := range callers {
			c := call{direction: participant.Action}
			switch {
			case caller%2 == 0 && undone[saga]:
				c.direction = participant.Compensation
			case rand.IntN(4) == 0:
				c.fails = status.Error(codes.Unavailable, "busy")
			}
			wg.Go(func() {
				<-start
				for range 3 {
					if _, err := s.call(t.Context(), id, c); err != nil && c.direction == participant.Compensation {
						t.Errorf("%s: an undo failed: %v", id, err)
					}
				}
			})
		}
		close(start)
	}
	wg.Wait()
	for saga, undone := range undone {
		id := fmt.Sprintf("sagas/r%d/steps/1", saga)
		effects := strings.Join(s.effects(t, id), " ")
		if ok := effects == "" || undone && effects == "action compensation" || !undone && effects == "action"; !ok {
			t.Errorf("%s: effects %q", id, effects)
		}
	}
	audit(t, s.db)
}

// audit checks a ledger against the effects. It must hold no matter what has happened to the service.
func audit(t *testing.T, db *sql.DB) (executed int) {
	t.Helper()
	for name, query := range map[string]string{
		"effects without exactly one executed row": `
			SELECT count(*) FROM (
				SELECT command_id, direction, count(*) AS n FROM effects GROUP BY command_id, direction) AS e
			WHERE e.n <> 1 OR NOT EXISTS (SELECT * FROM treaty_inbox i
				WHERE i.command_id = e.command_id AND i.direction = e.direction AND i.verdict = 'executed')`,
		"executed rows without an effect": `
			SELECT count(*) FROM treaty_inbox i WHERE verdict = 'executed' AND NOT EXISTS (
				SELECT * FROM effects e WHERE e.command_id = i.command_id AND e.direction = i.direction)`,
		"actions that took effect after their compensation": `
			SELECT count(*) FROM treaty_inbox a JOIN treaty_inbox c USING (command_id)
			WHERE a.direction = 'action' AND a.verdict = 'executed' AND c.direction = 'compensation'
				AND a.sequence > c.sequence`,
		"compensations that ran without their action": `
			SELECT count(*) FROM treaty_inbox c
			WHERE direction = 'compensation' AND verdict = 'executed' AND NOT EXISTS (
				SELECT * FROM treaty_inbox a
				WHERE a.command_id = c.command_id AND a.direction = 'action' AND a.verdict = 'executed')`,
	} {
		var n int
		if err := db.QueryRow(query).Scan(&n); err != nil {
			t.Fatal(err)
		}
		if n != 0 {
			t.Errorf("%d %s", n, name)
		}
	}
	if err := db.QueryRow(`SELECT count(*) FROM treaty_inbox WHERE verdict = 'executed'`).Scan(&executed); err != nil {
		t.Fatal(err)
	}
	return executed
}

// TestKilled kills the service's process in the middle of its work, again and again, and audits the database.
func TestKilled(t *testing.T) {
	if path := os.Getenv("INBOX_TEST_DB"); path != "" {
		workUntilKilled(t, path)
		return
	}
	path := filepath.Join(t.TempDir(), "service.db") // Not in the child: a killed process removes nothing.
	const rounds = 8
	var answered []string
	for round := range rounds {
		answered = append(answered, runAndKill(t, path, round)...)
	}
	s := open(t, path)
	// Whatever was answered is stored, also if the process was killed at once.
	for _, id := range answered {
		if len(s.effects(t, id)) == 0 {
			t.Errorf("%s was answered as executed, and has no effect", id)
		}
	}
	t.Logf("%d kills, %d executed commands, %d answers, no violation", rounds, audit(t, s.db), len(answered))
}

// runAndKill runs the service and kills it after a random number of answers. It returns the commands that were answered
// as executed.
func runAndKill(t *testing.T, path string, round int) (executed []string) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^TestKilled$")
	child.Env = append(os.Environ(), "INBOX_TEST_DB="+path, fmt.Sprintf("INBOX_TEST_ROUND=%d", round))
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for n := rand.IntN(200) + 5; n > 0 && lines.Scan(); n-- {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || fields[0] != "answered" {
			t.Fatalf("the service said %q", lines.Text())
		}
		if fields[3] == "changed" {
			executed = append(executed, fields[1])
		}
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, out)
	_ = child.Wait()
	return executed
}

// workUntilKilled handles the commands of many callers at the same time, so that batches are killed.
func workUntilKilled(t *testing.T, path string) {
	s := open(t, path)
	const callers = 12
	var all sync.WaitGroup
	for caller := range callers {
		all.Go(func() {
			for n := caller; ; n += callers {
				// Some of the commands repeat those of the previous process.
				id := fmt.Sprintf("sagas/k%s-%d/steps/1", os.Getenv("INBOX_TEST_ROUND"), n/2)
				if n%7 == 0 {
					id = fmt.Sprintf("sagas/k0-%d/steps/1", n)
				}
				for _, d := range []participant.Direction{
					participant.Action, participant.Compensation, participant.Action,
				} {
					if n%3 != 0 || d == participant.Action {
						reply, err := s.call(t.Context(), id, call{direction: d})
						fmt.Println("answered", id, d, describe(reply, err))
					}
				}
			}
		})
	}
	all.Wait()
}
