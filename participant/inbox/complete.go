package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/treatyhq/treaty/participant"
)

// Why a command that was accepted can't be completed as asked. Trying again is of no use with any of them.
var (
	// ErrUndone says that the action was undone meanwhile. Its undo has taken back what the acceptance did; the work can be thrown away.
	ErrUndone = errors.New("the command was undone meanwhile")

	// ErrCompleted says that the command was completed in the other way before.
	ErrCompleted = errors.New("the command was completed otherwise before")

	// ErrNotAccepted says that the inbox knows of no such command that was accepted: it never came, it was undone before it came, its row was purged, or
	// it is a compensation that was refused before. A command that was executed or refused at once can't be told from one that was completed.
	ErrNotAccepted = errors.New("the command was never accepted")
)

// PendingCommand is a command that was accepted and not completed yet.
type PendingCommand struct {
	// Command is the command as it came first.
	Command participant.Command

	// Method is the method that was called, "/package.Service/Method"; empty when it wasn't called over gRPC.
	Method string

	// Wait is the time given to participant.Pending: how long the orchestrator waits for a completion or a heartbeat.
	Wait time.Duration

	// AcceptTime is when the command was accepted.
	AcceptTime time.Time
}

// Pending returns the commands that were accepted and neither completed nor undone since, oldest first. After a restart a service goes on with
// them. What it needs to know beside the command, the handler that accepted has stored in a table of the service's own. An error leaves
// nothing changed.
func (i *Inbox) Pending(ctx context.Context) ([]PendingCommand, error) {
	found, err := i.ledger.accepted(ctx, i.db)
	if err != nil {
		return nil, fmt.Errorf("listing the commands that were accepted: %w", err)
	}
	return found, nil
}

// Complete completes a command that was accepted: it runs a handler in a transaction and commits its effect together with its reply, at most once. Only
// the command's id and direction are looked at. From then on a duplicate gets the reply. Tell the orchestrator afterwards, by
// participant.Completer; when that fails, it finds out by a duplicate.
//
// A command that was completed before gets the stored reply, and the handler doesn't run. When the handler fails, nothing is stored and its
// error is returned; the command stays accepted. So does it when the database fails, unless that was at the commit: then ask again.
// The errors of the inbox itself are ErrUndone, ErrCompleted (it was refused) and ErrNotAccepted.
func Complete[R proto.Message](ctx context.Context, i *Inbox, command participant.Command, handler func(tx *sql.Tx) (R, error)) (R, error) {
	var none R
	reply := empty[R]()
	stored, err := i.complete(ctx, completion{command: command, verdict: Executed, run: func(tx *sql.Tx) ([]byte, error) {
		made, err := handler(tx)
		if err != nil {
			return nil, err
		}
		if made.ProtoReflect().IsValid() {
			reply = made
		}
		return proto.Marshal(reply)
	}})
	switch {
	case err != nil:
		return none, fmt.Errorf("completing %s (%s): %w", command.CommandID, command.Direction, err)
	case stored == nil:
		i.purgeSometimes(ctx)
		return reply, nil
	}
	if err := proto.Unmarshal(stored.answer, reply); err != nil {
		return none, fmt.Errorf("completing %s (%s): reading the stored reply: %w", command.CommandID, command.Direction, err)
	}
	return reply, nil
}

// Refuse completes a command that was accepted with a refusal, as made by participant.Refuse: it certainly has no effect. The handler, which may be
// nil, runs in a transaction and takes back what the acceptance did, because no undo will come for it; its effect is committed
// together with the refusal, at most once. From then on a duplicate gets the refusal; but a compensation that was accepted is forgotten, so
// that an operator can send it again. It is otherwise like [Complete]; ErrCompleted says that the command was executed.
func (i *Inbox) Refuse(ctx context.Context, command participant.Command, refusal error, handler func(tx *sql.Tx) error) error {
	if _, err := i.complete(ctx, completion{command: command, verdict: Refused, refusal: refusal, run: func(tx *sql.Tx) ([]byte, error) {
		if handler != nil {
			if err := handler(tx); err != nil {
				return nil, err
			}
		}
		return marshalRefusal(command, refusal)
	}}); err != nil {
		return fmt.Errorf("refusing %s (%s): %w", command.CommandID, command.Direction, err)
	}
	return nil
}

// completion is one command being completed.
type completion struct {
	command participant.Command
	verdict Verdict // Executed or Refused
	refusal error
	run     run
}

// complete returns what is stored when the command was completed in the same way before.
func (i *Inbox) complete(ctx context.Context, c completion) (stored *entry, err error) {
	var ok bool
	if c.command.Saga, ok = sagaOf(c.command.CommandID); !ok {
		return nil, fmt.Errorf("%w: a command id is sagas/{saga}/steps/{step}", ErrNotAccepted)
	}
	tx, done, err := i.ledger.begin(ctx, i.db, c.command.CommandID)
	if err != nil {
		return nil, unavailable("beginning a transaction", err)
	}
	defer done()
	// Also when the handler panics. After the commit it does nothing.
	defer func() { _ = rollback(tx) }()
	known, err := i.ledger.look(ctx, tx, c.command)
	if err != nil {
		return nil, unavailable("looking the command up", err)
	}
	e := known.in(c.command.Direction)
	if err := c.allowed(known, e); err != nil {
		return nil, err
	}
	if e.verdict == c.verdict {
		return e, nil
	}
	if c.verdict == Refused && !refuses(e.method, c.command.Direction, c.refusal) {
		return nil, fmt.Errorf("the code %s doesn't refuse this command: use participant.Refuse with one that does", statusOf(c.refusal).Code())
	}
	answer, err := c.run(tx)
	if err != nil {
		return nil, err
	}
	if err := i.settle(ctx, tx, &entry{command: c.command, verdict: c.verdict, answer: answer}); err != nil {
		return nil, unavailable("storing the answer", err)
	}
	if err := commit(tx); err != nil {
		return nil, err
	}
	i.report(ctx, c.command.Direction, c.verdict)
	return nil, nil
}

// allowed returns why a command can't be completed.
func (c *completion) allowed(known seen, e *entry) error {
	switch {
	case e == nil:
		return ErrNotAccepted
	case e.verdict == Accepted && c.command.Direction == participant.Action && known.compensation != nil:
		return ErrUndone
	case e.verdict == Accepted, e.verdict == c.verdict:
		return nil
	case e.verdict == Executed, e.verdict == Refused:
		return ErrCompleted
	default:
		return ErrNotAccepted
	}
}

// settle stores how a command that was accepted ended. A compensation's refusal isn't stored: it is sent again.
func (i *Inbox) settle(ctx context.Context, tx *sql.Tx, e *entry) error {
	if e.verdict == Refused && e.command.Direction == participant.Compensation {
		return i.ledger.drop(ctx, tx, e.command)
	}
	return i.ledger.settle(ctx, tx, e)
}

// sagaOf returns the saga of a command id.
func sagaOf(commandID string) (string, bool) {
	saga, step, ok := strings.Cut(commandID, "/steps/")
	return saga, ok && saga != "" && step != ""
}
