package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/participant/inbox"
)

const pendingCommand = "sagas/s/steps/1"

// act runs one step of a scenario and describes the answer. An effect is a row of the table effects, such as "accept"
// or "complete".
func (s *service) act(ctx context.Context, what string) string {
	direction := participant.Action
	what, compensating := strings.CutPrefix(what, "compensate: ")
	if compensating {
		direction = participant.Compensation
	}
	command := participant.Command{
		Saga: "sagas/s", CommandID: pendingCommand, Direction: direction, Attempt: 1, Epoch: 1,
	}
	effect := func(tx *inbox.Tx, name string) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO effects (command_id, direction) VALUES ($1, $2)`, pendingCommand,
			strings.TrimSpace(name))
		return err
	}
	ctx, verdict := traced(participant.NewContext(ctx, command))
	var answer string
	switch what {
	case "complete", "complete fails":
		reply, err := inbox.Complete(ctx, s.inbox, participant.Command{CommandID: command.CommandID,
			Direction: direction}, func(tx *inbox.Tx) (*customerv1.AddressChanged, error) {
			if err := effect(tx, what); err != nil || what == "complete" {
				return &customerv1.AddressChanged{AddressRevision: 7}, err
			}
			return nil, errors.New("failed")
		})
		answer = fmt.Sprintf("revision %d", reply.GetAddressRevision())
		if err != nil {
			answer = cause(err)
		}
	case "refuse", "refuse fails", "refuse wrongly":
		refusal := errRefused
		if what == "refuse wrongly" {
			refusal = status.Error(codes.Unavailable, "later")
		}
		err := inbox.Refuse(ctx, s.inbox, participant.Command{CommandID: command.CommandID, Direction: direction},
			refusal, func(tx *inbox.Tx) error {
				if err := effect(tx, what); err != nil || what != "refuse fails" {
					return err
				}
				return errors.New("failed")
			})
		answer = "refused"
		if err != nil {
			answer = cause(err)
		}
	case "accept", "execute", "busy":
		reply, err := inbox.Handle(ctx, s.inbox, func(tx *inbox.Tx) (*customerv1.AddressChanged, error) {
			if err := effect(tx, what); err != nil {
				return nil, err
			}
			if compensating {
				ok, err := inbox.ActionReply(ctx, s.inbox, tx, &customerv1.AddressChanged{})
				if err := errors.Join(err, effect(tx, fmt.Sprintf("of a reply: %t", ok))); err != nil {
					return nil, err
				}
			}
			switch what {
			case "accept":
				return nil, participant.Pending(90 * time.Second)
			case "busy":
				return nil, status.Error(codes.Unavailable, "busy")
			default:
				return &customerv1.AddressChanged{AddressRevision: 1}, nil
			}
		})
		answer = describe(fmt.Sprintf("revision %d", reply.GetAddressRevision()), err)
		if wait, ok := participant.IsPending(err); ok {
			answer = "pending " + wait.String()
		}
	default:
		answer = "?"
	}
	if v := verdict(); v != "" {
		answer += " (" + v + ")"
	}
	return answer
}

func cause(err error) string {
	for sentinel, name := range map[error]string{inbox.ErrCompensated: "compensated",
		inbox.ErrCompleted: "completed differently", inbox.ErrNotAccepted: "not accepted"} {
		if errors.Is(err, sentinel) {
			return name
		}
	}
	return "failed"
}

func TestAcceptedCommands(t *testing.T) { each(t, acceptedCommands) }

func acceptedCommands(t *testing.T, b backend) {
	t.Helper()
	type step struct{ does, want string }
	accepted := step{"accept", "pending 1m30s (accepted)"}
	again := step{"accept", "pending 1m30s (duplicate)"}
	completed := step{"complete", "revision 7 (executed)"}
	for _, test := range []struct {
		name    string
		steps   []step
		pending string // what Pending lists at the end
		effects []string
	}{
		{"completed", []step{accepted, completed, {"accept", "revision 7 (duplicate)"}}, "",
			[]string{"accept", "complete"}},
		{"duplicates while pending", []step{accepted, again, {"execute", "pending 1m30s (duplicate)"}}, "action",
			[]string{"accept"}},
		{"completed twice", []step{accepted, completed, {"complete", "revision 7"}}, "",
			[]string{"accept", "complete"}},
		{"a completion that fails leaves it accepted", []step{accepted, {"complete fails", "failed"}, again, completed},
			"", []string{"accept", "complete"}},
		{"refused", []step{accepted, {"refuse", "refused (refused)"}, {"accept",
			"FailedPrecondition customers/1 (duplicate)"}}, "", []string{"accept", "refuse"}},
		{"refused twice", []step{accepted, {"refuse", "refused (refused)"}, {"refuse", "refused"}}, "",
			[]string{"accept", "refuse"}},
		{"a refusal that fails leaves it accepted", []step{accepted, {"refuse fails", "failed"}, again}, "action",
			[]string{"accept"}},
		{"a code that doesn't refuse", []step{accepted, {"refuse wrongly", "failed"}, again}, "action",
			[]string{"accept"}},
		{"refused, then completed", []step{accepted, {"refuse", "refused (refused)"},
			{"complete", "completed differently"}}, "", []string{"accept", "refuse"}},
		{"completed, then refused", []step{accepted, completed, {"refuse", "completed differently"}}, "",
			[]string{"accept", "complete"}},
		{"compensated after its refusal", []step{accepted, {"refuse", "refused (refused)"},
			{"compensate: execute", "revision 0 (null-compensated)"}}, "", []string{"accept", "refuse"}},
		{"compensated after its completion", []step{accepted, completed,
			{"compensate: execute", "revision 1 (executed)"}}, "",
			[]string{"accept", "complete", "execute", "of a reply: true"}},
		{
			"compensated while pending",
			[]step{accepted, {"compensate: execute", "revision 1 (executed)"}, {"complete", "compensated"},
				{"refuse", "compensated"},
				{"accept", "FailedPrecondition treaty/COMPENSATED_BEFORE (refused-late)"},
				{"compensate: execute", "revision 1 (duplicate)"}},
			"",
			[]string{"accept", "execute", "of a reply: false"},
		},
		{"completed between two compensations", []step{accepted, {"compensate: busy", "Unavailable"}, completed,
			{"compensate: execute", "revision 1 (executed)"}}, "", []string{"accept", "complete", "execute",
			"of a reply: true"}},
		{"compensated before it arrived", []step{{"compensate: execute", "revision 0 (null-compensated)"},
			{"accept", "FailedPrecondition treaty/COMPENSATED_BEFORE (refused-late)"}, {"complete", "not accepted"}},
			"", nil},
		{"never arrived", []step{{"complete", "not accepted"}, {"refuse", "not accepted"}}, "", nil},
		{"executed at once", []step{{"execute", "revision 1 (executed)"}, {"refuse", "completed differently"},
			{"complete", "revision 1"}}, "", []string{"execute"}},
		{
			"a compensation that takes long",
			[]step{{"execute", "revision 1 (executed)"}, {"compensate: accept", "pending 1m30s (accepted)"},
				{"compensate: accept", "pending 1m30s (duplicate)"}, {"compensate: complete", "revision 7 (executed)"},
				{"compensate: accept", "revision 7 (duplicate)"}},
			"",
			[]string{"execute", "accept", "of a reply: true", "complete"},
		},
		{
			"a compensation that takes long, of an action that was only accepted",
			[]step{accepted, {"compensate: accept", "pending 1m30s (accepted)"}, {"complete", "compensated"}},
			"compensation",
			[]string{"accept", "accept", "of a reply: false"},
		},
		{
			"a compensation that is refused later is sent again",
			[]step{{"execute", "revision 1 (executed)"}, {"compensate: accept", "pending 1m30s (accepted)"},
				{"compensate: refuse", "refused (refused)"}, {"compensate: execute", "revision 1 (executed)"}},
			"",
			[]string{"execute", "accept", "of a reply: true", "refuse", "execute", "of a reply: true"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			path := b.place(t)
			var got []step
			for _, step := range test.steps {
				// Each step runs in a new process.
				s := b.open(t, path)
				step.want = s.act(t.Context(), step.does)
				got = append(got, step)
				if err := s.db.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(test.steps, got, cmp.AllowUnexported(step{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			s := b.open(t, path)
			if diff := cmp.Diff(test.effects, s.effects(t, pendingCommand)); diff != "" {
				t.Errorf("effects (-want +got):\n%s", diff)
			}
			pending, err := inbox.Pending(t.Context(), s.inbox)
			if err != nil {
				t.Fatal(err)
			}
			var listed string
			for _, p := range pending {
				listed += string(p.Command.Direction)
				if p.Command.CommandID != pendingCommand || p.Command.Saga != "sagas/s" || p.Wait != 90*time.Second ||
					p.AcceptTime.IsZero() {
					t.Errorf("listed %+v", p)
				}
			}
			if listed != test.pending {
				t.Errorf("listed %q, want %q", listed, test.pending)
			}
		})
	}
}

// A call that isn't made for a saga can't be accepted: nobody would receive its completion.
func TestPersonsCallIsNotAccepted(t *testing.T) { each(t, personsCallIsNotAccepted) }

func personsCallIsNotAccepted(t *testing.T, b backend) {
	t.Helper()
	s := b.fresh(t)
	_, err := inbox.Handle(t.Context(), s.inbox, func(tx *inbox.Tx) (*customerv1.AddressChanged, error) {
		if _, err := tx.ExecContext(t.Context(),
			`INSERT INTO effects (command_id, direction) VALUES ('', 'action')`); err != nil {
			return nil, err
		}
		return nil, participant.Pending(time.Second)
	})
	if _, ok := participant.IsPending(err); !ok {
		t.Errorf("got %v", err)
	}
	if got := s.effects(t, ""); got != nil {
		t.Errorf("effects %q", got)
	}
}

func TestMalformedCommandID(t *testing.T) { each(t, malformedCommandID) }

func malformedCommandID(t *testing.T, b backend) {
	t.Helper()
	s := b.fresh(t)
	for _, id := range []string{"", "sagas/s", "/steps/1", "sagas/s/steps/"} {
		if err := inbox.Refuse(t.Context(), s.inbox, participant.Command{CommandID: id, Direction: participant.Action},
			errRefused, nil); !errors.Is(err, inbox.ErrNotAccepted) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

// A completion and a compensation that arrive at the same time are handled one after the other.
func TestCompletionRacesUndo(t *testing.T) { each(t, completionRacesUndo) }

func completionRacesUndo(t *testing.T, b backend) {
	t.Helper()
	for range 20 {
		s := b.fresh(t)
		s.act(t.Context(), "accept")
		completed := make(chan string, 1)
		go func() { completed <- s.act(t.Context(), "complete") }()
		undone := s.act(t.Context(), "compensate: execute")
		got, effects := <-completed, strings.Join(s.effects(t, pendingCommand), ", ")
		switch {
		case undone != "revision 1 (executed)":
			t.Errorf("the undo: %s", undone)
		case got == "compensated" && effects == "accept, execute, of a reply: false":
		case got == "revision 7 (executed)" && effects == "accept, complete, execute, of a reply: true":
		default:
			t.Errorf("%s: %s", got, effects)
		}
		if err := s.db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// schemaBefore is the table from before commands could be accepted.
const schemaBefore = `
CREATE TABLE treaty_inbox (
	sequence    INTEGER PRIMARY KEY AUTOINCREMENT,
	command_id  TEXT    NOT NULL,
	direction   TEXT    NOT NULL CHECK (direction IN ('action', 'compensation')),
	method      TEXT    NOT NULL,
	verdict     TEXT    NOT NULL CHECK (verdict IN ('executed', 'refused', 'null-compensated', 'refused-late')),
	reply       BLOB    NOT NULL,
	epoch       INTEGER NOT NULL,
	attempt     INTEGER NOT NULL,
	executed_at INTEGER NOT NULL,
	duplicates  INTEGER NOT NULL DEFAULT 0,
	UNIQUE (command_id, direction)
) STRICT;
INSERT INTO treaty_inbox VALUES (3, 'sagas/s/steps/1', 'action', '', 'executed', x'', 5, 1, 1000, 2);
INSERT INTO treaty_inbox VALUES (9, 'sagas/purged/steps/1', 'action', '', 'executed', x'', 5, 1, 1000, 0);
DELETE FROM treaty_inbox WHERE sequence = 9;
`

// An inbox of an earlier version can be opened. It keeps its rows and its sequence, and can accept commands.
func TestInboxOfAnEarlierVersion(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "service.db"))
	if _, err := s.db.ExecContext(t.Context(), `DROP TABLE treaty_inbox;`+schemaBefore); err != nil {
		t.Fatal(err)
	}
	for range 2 { // The second time there is nothing to migrate.
		in, err := inbox.OpenSQLite(t.Context(), s.db, inbox.Options{})
		if err != nil {
			t.Fatal(err)
		}
		s.inbox = in
	}
	ctx := participant.NewContext(t.Context(), participant.Command{Saga: "sagas/n", CommandID: "sagas/n/steps/1",
		Direction: participant.Action, Attempt: 1})
	if _, err := inbox.Handle(ctx, s.inbox, func(*inbox.Tx) (*customerv1.AddressChanged, error) {
		return nil, participant.Pending(time.Second)
	}); cause(err) != "failed" {
		t.Error(err)
	}
	rows, err := s.db.QueryContext(t.Context(),
		`SELECT sequence || ' ' || command_id || ' ' || verdict || ' ' || epoch || ' ' || duplicates
		FROM treaty_inbox ORDER BY sequence`)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var got []string
	for rows.Next() {
		var row string
		if err := rows.Scan(&row); err != nil {
			t.Fatal(err)
		}
		got = append(got, row)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"3 sagas/s/steps/1 executed 5 2", "10 sagas/n/steps/1 accepted 0 0"},
		got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
