package inbox_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	_ "github.com/ncruces/go-sqlite3/driver" // registers the "sqlite3" driver
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/participant/inbox"
)

// service is a participant with one command and its compensation. Its effects are rows without any constraint, so an
// effect that happens twice is visible.
type service struct {
	db    *sql.DB
	inbox *inbox.Inbox

	postgres bool
	pgx      bool // Its handlers use pgx without package sql.
}

const changeAddress = "acme.customer.v1.CustomerService/ChangeAddress"

const effectsTable = `CREATE TABLE IF NOT EXISTS effects (
	n INTEGER PRIMARY KEY AUTOINCREMENT, command_id TEXT, direction TEXT)`

func open(t *testing.T, path string) *service {
	t.Helper()
	return openWith(t, inbox.SQLiteDSN(path), inbox.Options{Methods: []string{changeAddress}})
}

func openWith(t *testing.T, dataSource string, options inbox.Options) *service {
	t.Helper()
	db, err := inbox.OpenSQLiteDB(dataSource)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if _, err := db.ExecContext(t.Context(), effectsTable); err != nil {
		t.Fatal(err)
	}
	in, err := inbox.OpenSQLite(t.Context(), db, options)
	if err != nil {
		t.Fatal(err)
	}
	return &service{db: db, inbox: in}
}

var errRefused = participant.Refuse(codes.FailedPrecondition, "closed",
	&customerv1.CustomerClosed{Customer: "customers/1"})

const insertEffect = `INSERT INTO effects (command_id, direction) VALUES ('sagas/s/steps/1', 'action')`

// call is one call in a scenario.
type call struct {
	direction participant.Direction
	epoch     uint64
	scope     string
	digest    string
	start     time.Time
	fails     error // what the handler returns after its effect
}

func (s *service) call(ctx context.Context, commandID string, c call) (string, error) {
	saga, _, _ := strings.Cut(commandID, "/steps/")
	ctx = participant.NewContext(ctx, participant.Command{Saga: saga, CommandID: commandID, Direction: c.direction,
		Attempt: 1, Epoch: c.epoch, Scope: c.scope, RequestDigest: c.digest, Start: c.start})
	if s.pgx {
		return s.callPgx(ctx, commandID, c)
	}
	effect := func(tx *inbox.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO effects (command_id, direction) VALUES ($1, $2)`, commandID,
			c.direction)
		return errors.Join(err, c.fails)
	}
	if c.direction == participant.Compensation {
		reply, err := inbox.Handle(ctx, s.inbox, func(tx *inbox.Tx) (*customerv1.AddressRestored, error) {
			return &customerv1.AddressRestored{}, effect(tx)
		})
		if err == nil && reply == nil {
			return "", errors.New("a reply is missing")
		}
		return "restored", err
	}
	reply, err := inbox.Handle(ctx, s.inbox, func(tx *inbox.Tx) (*customerv1.AddressChanged, error) {
		if err := effect(tx); err != nil {
			return nil, err
		}
		var n int64
		err := tx.QueryRowContext(ctx, `SELECT count(*) FROM effects`).Scan(&n)
		return &customerv1.AddressChanged{Customer: commandID, AddressRevision: n}, err
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("changed %d", reply.GetAddressRevision()), nil
}

func (s *service) effects(t *testing.T, commandID string) (effects []string) {
	t.Helper()
	rows, err := s.db.QueryContext(t.Context(), `SELECT direction FROM effects WHERE command_id = $1 ORDER BY n`,
		commandID)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var direction string
		if err := rows.Scan(&direction); err != nil {
			t.Fatal(err)
		}
		effects = append(effects, direction)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return effects
}

func traced(ctx context.Context) (context.Context, func() string) {
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	ctx, span := provider.Tracer("test").Start(ctx, "call")
	return ctx, func() string {
		span.End()
		for _, a := range recorder.Ended()[0].Attributes() {
			if a.Key == "treaty.inbox.verdict" {
				return a.Value.AsString()
			}
		}
		return ""
	}
}

func describe(reply string, err error) string {
	if err == nil {
		return reply
	}
	s := status.Convert(err)
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			return s.Code().String() + " " + d.GetDomain() + "/" + d.GetReason()
		case *customerv1.CustomerClosed:
			return s.Code().String() + " " + d.GetCustomer()
		}
	}
	return s.Code().String()
}

func TestSequences(t *testing.T) { each(t, sequences) }

func sequences(t *testing.T, b backend) {
	t.Helper()
	action := call{direction: participant.Action}
	undo := call{direction: participant.Compensation}
	refused := call{direction: participant.Action, fails: errRefused}
	refusedUndo := call{direction: participant.Compensation, fails: errRefused}
	busy := call{direction: participant.Action, fails: status.Error(codes.Unavailable, "busy")}
	conflict := call{direction: participant.Action, fails: status.Error(codes.Aborted, "conflict")}
	broken := call{direction: participant.Action, fails: errors.New("broken")}
	at := func(epoch uint64, c call) call { c.epoch = epoch; return c }

	type answer struct{ Reply, Verdict string }
	executed := answer{"changed 1", "executed"}
	again := answer{"changed 1", "duplicate"}
	undone := answer{"restored", "executed"}
	late := answer{"FailedPrecondition treaty/COMPENSATED_BEFORE", "refused-late"}
	lateAgain := answer{"FailedPrecondition treaty/COMPENSATED_BEFORE", "duplicate"}
	noop := answer{"restored", "null-compensated"}
	undoneAgain := answer{"restored", "duplicate"}
	closed := answer{"FailedPrecondition customers/1", "refused"}
	closedAgain := answer{"FailedPrecondition customers/1", "duplicate"}
	stale := answer{"Aborted treaty/STALE_EPOCH", "stale"}

	for _, test := range []struct {
		name    string
		calls   []call
		want    []answer
		effects []string
	}{
		{"action", []call{action}, []answer{executed}, []string{"action"}},
		{"duplicates", []call{action, action, action}, []answer{executed, again, again}, []string{"action"}},
		{"undone", []call{action, undo}, []answer{executed, undone}, []string{"action", "compensation"}},
		{"undone twice", []call{action, undo, undo}, []answer{executed, undone, undoneAgain},
			[]string{"action", "compensation"}},
		{"late duplicate after the undo", []call{action, undo, action}, []answer{executed, undone, late},
			[]string{"action", "compensation"}},
		{"undo without action", []call{undo}, []answer{noop}, nil},
		{"undo without action, twice", []call{undo, undo}, []answer{noop, undoneAgain}, nil},
		{"late action", []call{undo, action}, []answer{noop, late}, nil},
		{"late action, twice", []call{undo, action, action}, []answer{noop, late, lateAgain}, nil},
		{"undo again after the late action", []call{undo, action, undo}, []answer{noop, late, undoneAgain}, nil},
		{"refused", []call{refused}, []answer{closed}, nil},
		{"refused stays refused", []call{refused, action}, []answer{closed, closedAgain}, nil},
		{"undo of a refused action", []call{refused, undo, action}, []answer{closed, noop, late}, nil},
		{"not executed, then executed", []call{busy, conflict, broken, action},
			[]answer{{"Unavailable", ""}, {"Aborted", ""}, {"Unknown", ""}, executed}, []string{"action"}},
		{"not executed, then undone", []call{busy, undo, action}, []answer{{"Unavailable", ""}, noop, late}, nil},
		{"a refused undo can be sent again", []call{action, refusedUndo, undo},
			[]answer{executed, {"FailedPrecondition customers/1", ""}, undone}, []string{"action", "compensation"}},
		{"stale action", []call{at(2, undo), at(1, action), at(2, action)}, []answer{noop, stale, late}, nil},
		{"stale duplicate", []call{at(1, action), at(2, action), at(1, undo), at(2, undo)},
			[]answer{executed, again, stale, undone}, []string{"action", "compensation"}},
		{"a new epoch continues", []call{at(1, action), at(7, undo)}, []answer{executed, undone},
			[]string{"action", "compensation"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			path := b.place(t)
			var got []answer
			for _, c := range test.calls {
				// Each call is handled by a new process.
				s := b.open(t, path)
				ctx, verdict := traced(t.Context())
				reply := describe(s.call(ctx, "sagas/s/steps/1", c))
				got = append(got, answer{reply, verdict()})
				if err := s.db.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("answers (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.effects, b.open(t, path).effects(t, "sagas/s/steps/1")); diff != "" {
				t.Errorf("effects (-want +got):\n%s", diff)
			}
		})
	}
}

// TestAllOrders runs every sequence of up to four calls and checks the invariants.
func TestAllOrders(t *testing.T) { each(t, allOrders) }

func allOrders(t *testing.T, b backend) {
	t.Helper()
	s := b.fresh(t)
	kinds := []call{
		{direction: participant.Action},
		{direction: participant.Action, fails: errRefused},
		{direction: participant.Action, fails: status.Error(codes.Unavailable, "busy")},
		{direction: participant.Compensation},
	}
	const longest = 4
	var sequence func(prefix []call, id string)
	sequence = func(prefix []call, id string) {
		if len(prefix) > 0 {
			checkOrder(t, s, "sagas/o"+id+"/steps/1", prefix)
		}
		if len(prefix) == longest {
			return
		}
		for i, k := range kinds {
			sequence(append(slices.Clip(prefix), k), fmt.Sprintf("%s%d", id, i))
		}
	}
	sequence(nil, "")
}

func checkOrder(t *testing.T, s *service, commandID string, calls []call) {
	t.Helper()
	var first [2]string // the first stored answer in each direction
	for i, c := range calls {
		reply, err := s.call(t.Context(), commandID, c)
		if status.Code(err) == codes.Unavailable {
			continue // nothing was stored
		}
		answer, d := describe(reply, err), 0
		if c.direction == participant.Compensation {
			d = 1
		}
		if d == 0 && first[1] != "" && strings.Contains(answer, "COMPENSATED_BEFORE") {
			continue // whatever it was answered before
		}
		if first[d] == "" {
			first[d] = answer
		}
		if answer != first[d] {
			t.Errorf("%s: call %d was answered %q and an earlier one %q", commandID, i, answer, first[d])
		}
	}
	switch effects := strings.Join(s.effects(t, commandID), " "); effects {
	case "", "action", "action compensation":
		if wasDone := strings.HasPrefix(first[0], "changed"); wasDone != (effects != "") {
			t.Errorf("%s: the action was answered %q, the effects are %q", commandID, first[0], effects)
		}
		if undone := first[1] != ""; undone && effects == "action" {
			t.Errorf("%s: the undo was answered %q, the effects are %q", commandID, first[1], effects)
		}
	default:
		t.Errorf("%s: effects %q", commandID, effects)
	}
}

func TestCallOfAPerson(t *testing.T) { each(t, callOfAPerson) }

func callOfAPerson(t *testing.T, b backend) {
	t.Helper()
	s := b.fresh(t)
	for range 2 {
		_, err := inbox.Handle(t.Context(), s.inbox, func(tx *inbox.Tx) (*customerv1.AddressChanged, error) {
			_, err := tx.ExecContext(t.Context(), `INSERT INTO effects (command_id, direction) VALUES ('', 'action')`)
			return &customerv1.AddressChanged{}, err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := s.effects(t, ""); len(got) != 2 {
		t.Errorf("effects %q, want one for each call", got)
	}
}

func TestActionReply(t *testing.T) { each(t, actionReply) }

func actionReply(t *testing.T, b backend) {
	t.Helper()
	s := b.fresh(t)
	if _, err := s.call(t.Context(), "sagas/s/steps/1", call{direction: participant.Action}); err != nil {
		t.Fatal(err)
	}
	ctx := participant.NewContext(t.Context(), participant.Command{Saga: "sagas/s", CommandID: "sagas/s/steps/1",
		Direction: participant.Compensation, Attempt: 1})
	var got customerv1.AddressChanged
	if _, err := inbox.Handle(ctx, s.inbox, func(tx *inbox.Tx) (*customerv1.AddressRestored, error) {
		if ok, err := inbox.ActionReply(ctx, s.inbox, tx, &got); err != nil || !ok {
			t.Errorf("ActionReply: %t, %v", ok, err)
		}
		return &customerv1.AddressRestored{}, nil
	}); err != nil {
		t.Fatal(err)
	}
	if got.GetAddressRevision() != 1 {
		t.Errorf("the action's reply is %v, want revision 1", &got)
	}
}

func TestPanicLeavesNothing(t *testing.T) { each(t, panicLeavesNothing) }

func panicLeavesNothing(t *testing.T, b backend) {
	t.Helper()
	s := b.fresh(t)
	ctx := participant.NewContext(t.Context(), participant.Command{Saga: "sagas/s", CommandID: "sagas/s/steps/1",
		Direction: participant.Action, Attempt: 1})
	func() {
		defer func() { _ = recover() }()
		_, _ = inbox.Handle(ctx, s.inbox, func(tx *inbox.Tx) (*customerv1.AddressChanged, error) {
			if _, err := tx.ExecContext(t.Context(), insertEffect); err != nil {
				t.Error(err)
			}
			panic("handler")
		})
	}()
	if got := describe(s.call(t.Context(), "sagas/s/steps/1",
		call{direction: participant.Compensation})); got != "restored" {
		t.Errorf("the undo after a panic: %s", got)
	}
	if got := s.effects(t, "sagas/s/steps/1"); got != nil {
		t.Errorf("effects %q after a panic", got)
	}
}

func TestCancelledCallLeavesNothing(t *testing.T) { each(t, cancelledCallLeavesNothing) }

func cancelledCallLeavesNothing(t *testing.T, b backend) {
	t.Helper()
	s := b.fresh(t)
	ctx, cancel := context.WithCancel(t.Context())
	command := participant.NewContext(ctx, participant.Command{Saga: "sagas/s", CommandID: "sagas/s/steps/1",
		Direction: participant.Action, Attempt: 1})
	_, err := inbox.Handle(command, s.inbox, func(tx *inbox.Tx) (*customerv1.AddressChanged, error) {
		if _, err := tx.ExecContext(t.Context(), insertEffect); err != nil {
			t.Error(err)
		}
		cancel()
		return &customerv1.AddressChanged{}, nil
	})
	if status.Code(err) != codes.Canceled {
		t.Errorf("got %v, want CANCELLED", err)
	}
	if got := s.effects(t, "sagas/s/steps/1"); got != nil {
		t.Errorf("effects %q of a cancelled call", got)
	}
}

// TestDeadlineInTheDatabase checks that a statement interrupted by the call's deadline, in the handler or while another
// process writes, counts as DEADLINE_EXCEEDED and not as a failure of the database.
func TestDeadlineInTheDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "service.db")
	s, other := open(t, path), open(t, path)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	command := participant.NewContext(ctx, participant.Command{Saga: "sagas/s", CommandID: "sagas/s/steps/1",
		Direction: participant.Action, Attempt: 1})
	_, err := inbox.Handle(command, s.inbox, func(tx *inbox.Tx) (*customerv1.AddressChanged, error) {
		var n int
		const endless = `WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT count(*) FROM c`
		err := tx.QueryRowContext(ctx, endless).Scan(&n)
		return nil, err
	})
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("interrupted in the handler: %v, want DEADLINE_EXCEEDED", err)
	}

	tx, err := other.db.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelSerializable})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.call(ctx, "sagas/s/steps/1",
		call{direction: participant.Action}); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("while another process writes: %v, want DEADLINE_EXCEEDED", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if got := describe(s.call(t.Context(), "sagas/s/steps/1",
		call{direction: participant.Action})); got != "changed 1" {
		t.Errorf("the next attempt: %s", got)
	}
}

// TestPurgeLooksBehindYoungRows checks that recently completed commands, which keep their place at the front of the
// table, don't hide the old rows after them.
func TestPurgeLooksBehindYoungRows(t *testing.T) { each(t, purgeLooksBehindYoungRows) }

func purgeLooksBehindYoungRows(t *testing.T, b backend) {
	t.Helper()
	s := b.fresh(t)
	if _, err := s.db.Exec(`
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 2050)
		INSERT INTO treaty_inbox (command_id, direction, method, verdict, reply, epoch, attempt, executed_at)
		SELECT 'sagas/s' || i || '/steps/1', 'action', '', 'executed', ` + b.noBytes + `, 1, 1,
			CASE WHEN i <= 2000 THEN 3000000 ELSE 1000 END FROM n ORDER BY i`); err != nil {
		t.Fatal(err)
	}
	s.lockable(t)
	if n, err := inbox.Purge(t.Context(), s.inbox, timeUnix(2)); err != nil || n != 50 {
		t.Errorf("purged %d rows, %v; want 50", n, err)
	}
}

// TestPurgeKeepsPending checks that an accepted command is kept, however old it is, until it is completed or
// compensated.
func TestPurgeKeepsPending(t *testing.T) { each(t, purgeKeepsPending) }

func purgeKeepsPending(t *testing.T, b backend) {
	t.Helper()
	s := b.fresh(t)
	for step, directions := range map[string][]participant.Direction{
		"1": {participant.Action},
		"2": {participant.Action, participant.Compensation},
	} {
		for _, direction := range directions {
			c := call{direction: direction}
			if direction == participant.Action {
				c.fails = participant.Pending(time.Hour)
			}
			_, err := s.call(t.Context(), "sagas/s/steps/"+step, c)
			if _, pending := participant.IsPending(err); pending != (direction == participant.Action) {
				t.Fatal(err)
			}
		}
	}
	if n, err := inbox.Purge(t.Context(), s.inbox, time.Now().Add(time.Hour)); err != nil || n != 2 {
		t.Errorf("purged %d rows, %v; want the two of the command that was undone", n, err)
	}
	if pending, err := inbox.Pending(t.Context(), s.inbox); err != nil || len(pending) != 1 ||
		pending[0].Command.CommandID != "sagas/s/steps/1" {
		t.Errorf("pending are %v, %v; want sagas/s/steps/1", pending, err)
	}
}

func TestPurge(t *testing.T) { each(t, purgeSuite) }

func purgeSuite(t *testing.T, b backend) {
	t.Helper()
	s := b.fresh(t)
	for n := range 3 {
		if _, err := s.call(t.Context(), fmt.Sprintf("sagas/s/steps/%d", n),
			call{direction: participant.Action}); err != nil {
			t.Fatal(err)
		}
	}
	// Command 0 is old in one direction only, command 1 in both.
	for _, set := range []string{
		`UPDATE treaty_inbox SET executed_at = 1000 WHERE command_id IN ('sagas/s/steps/0', 'sagas/s/steps/1')`,
		`INSERT INTO treaty_inbox (command_id, direction, method, verdict, reply, epoch, attempt, executed_at)
		 VALUES ('sagas/s/steps/0', 'compensation', '', 'executed', ` + b.noBytes + `, 0, 1, 3000000)`,
	} {
		if _, err := s.db.Exec(set); err != nil {
			t.Fatal(err)
		}
	}
	s.lockable(t)
	n, err := inbox.Purge(t.Context(), s.inbox, timeUnix(2))
	if err != nil || n != 1 {
		t.Errorf("purged %d rows, %v; want 1", n, err)
	}
	var left int
	if err := s.db.QueryRow(`SELECT count(*) FROM treaty_inbox`).Scan(&left); err != nil || left != 3 {
		t.Errorf("%d rows left, %v; want 3", left, err)
	}
}
