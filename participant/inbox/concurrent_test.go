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
func TestInterleavings(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "service.db"))
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
	for round := range rounds {
		runAndKill(t, path, round)
	}
	db := open(t, path).db
	t.Logf("%d kills, %d executed commands, no violation", rounds, audit(t, db))
}

func runAndKill(t *testing.T, path string, round int) {
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
	// The process is killed after a random number of answers.
	lines := bufio.NewScanner(out)
	for n := rand.IntN(60) + 5; n > 0 && lines.Scan(); n-- {
		if !strings.HasPrefix(lines.Text(), "answered") {
			t.Fatalf("the service said %q", lines.Text())
		}
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, out)
	_ = child.Wait()
}

func workUntilKilled(t *testing.T, path string) {
	s := open(t, path)
	for n := 0; ; n++ {
		// Some of the commands repeat those of the previous process.
		id := fmt.Sprintf("sagas/k%s-%d/steps/1", os.Getenv("INBOX_TEST_ROUND"), n/2)
		if n%7 == 0 {
			id = fmt.Sprintf("sagas/k0-%d/steps/1", n)
		}
		var wg sync.WaitGroup
		for _, d := range []participant.Direction{participant.Action, participant.Compensation, participant.Action} {
			wg.Go(func() {
				if n%3 != 0 || d == participant.Action {
					_, _ = s.call(t.Context(), id, call{direction: d})
					fmt.Println("answered", id)
				}
			})
		}
		wg.Wait()
	}
}
