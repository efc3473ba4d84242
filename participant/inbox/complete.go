package inbox

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/participant"
)

// The errors of [Complete] and [Refuse] for a command that can't end in this way. Retrying won't help.
var (
	// ErrCompensated says that the action was compensated before it was completed. The compensation has undone what the
	// acceptance did, so the work can be discarded.
	ErrCompensated = errors.New("the command was compensated meanwhile")

	// ErrCompleted says that the command already ended in the opposite way: executed instead of refused, or refused
	// instead of executed.
	ErrCompleted = errors.New("the command was already completed in another way")

	// ErrNotAccepted says that the inbox has no such accepted command. It never arrived, its compensation arrived
	// first, its row was purged, or it is a compensation that was refused before. A command that was executed or
	// refused at once can't be distinguished from one that was completed.
	ErrNotAccepted = errors.New("the command was never accepted")
)

// Complete ends an accepted command with a reply. It runs the handler in a transaction and commits its effect together
// with the reply, at most once. The handler may run more than once, as that of [Handle]. Only the command's id and
// direction are used. From then on, duplicates get the reply. Inform the orchestrator afterwards, with a
// participant.Completer. If that fails, the orchestrator learns the reply from a duplicate.
//
// If the command was completed before, Complete returns the stored reply and doesn't run the handler. If the handler
// fails, Complete returns its error, stores nothing, and the command stays accepted. If the database fails, the command
// also stays accepted, unless the commit failed: then it is unknown, and calling Complete again is safe. A reply that
// is larger than Options.MaxReplyBytes and the mistakes that [Handle] lists are errors of the handler, too. The other
// errors wrap ErrCompensated, ErrCompleted or ErrNotAccepted.
func Complete[R proto.Message](
	ctx context.Context, in *Inbox, command participant.Command, handler func(tx *Tx) (R, error),
) (R, error) {
	var none R
	reply := empty[R]()
	stored, err := in.complete(ctx, completion{command: command, verdict: Executed, run: replying(handler, &reply)})
	switch {
	case err != nil:
		return none, fmt.Errorf("completing %s (%s): %w", command.CommandID, command.Direction, err)
	case stored == nil:
		in.purgeSometimes(ctx)
		return reply, nil
	}
	if err := proto.Unmarshal(stored.answer, reply); err != nil {
		return none, fmt.Errorf("completing %s (%s): reading the stored reply: %w", command.CommandID,
			command.Direction, err)
	}
	return reply, nil
}

// Refuse ends an accepted command with a refusal, made by participant.Refuse: the command certainly has no effect. No
// compensation follows for a refused action, so the handler must undo what the acceptance did. It may be nil if there
// is nothing to undo. Its effect is committed together with the refusal, at most once. From then on, duplicates get the
// refusal. A compensation is forgotten instead, so that an operator can send it again.
//
// Otherwise Refuse is like [Complete]. ErrCompleted says that the command was executed. Inform the orchestrator with
// completer.Refuse(ctx, command, participant.Settle(refusal)).
func Refuse(
	ctx context.Context, in *Inbox, command participant.Command, refusal error, handler func(tx *Tx) error,
) error {
	_, err := in.complete(ctx, completion{command: command, verdict: Refused, refusal: refusal,
		run: func(tx *Tx) ([]byte, error) {
			if handler != nil {
				if err := handler(tx); err != nil {
					return nil, err
				}
			}
			return marshalRefusal(command, refusal)
		}})
	if err != nil {
		return fmt.Errorf("refusing %s (%s): %w", command.CommandID, command.Direction, err)
	}
	return nil
}

// completion ends one accepted command.
type completion struct {
	command participant.Command
	verdict Verdict // Executed or Refused
	refusal error
	run     run
}

// complete returns the stored entry if the command already ended the same way.
func (i *Inbox) complete(ctx context.Context, c completion) (stored *entry, err error) {
	var ok bool
	if c.command.Saga, _, ok = wire.SplitStep(c.command.CommandID); !ok {
		return nil, fmt.Errorf("%w: a command id is sagas/{saga}/steps/{step}", ErrNotAccepted)
	}
	done := i.transact(ctx, c.command.CommandID, completions, func(u *unit) conclusion {
		stored = nil // It may run more than once.
		known, err := i.ledger.look(ctx, u, c.command)
		if err != nil {
			return failed(u.lose(unavailable("looking the command up", err)))
		}
		e := known.in(c.command.Direction)
		if err := c.allowed(known, e); err != nil {
			return failed(err)
		}
		if e.verdict == c.verdict {
			stored = e
			return conclusion{keep: true}
		}
		return i.end(ctx, u, c, e.method)
	})
	if done.verdict != "" {
		i.report(ctx, c.command.Direction, done.verdict)
	}
	return stored, done.err
}

// completions is the method of all completions, as far as batches are concerned: which one it is isn't known before.
const completions = "completions"

// end runs the handler of a completion and stores the command's end.
func (i *Inbox) end(ctx context.Context, u *unit, c completion, method string) conclusion {
	if c.verdict == Refused && !refuses(method, c.command.Direction, c.refusal) {
		return failed(fmt.Errorf("the code %s doesn't refuse this command: use participant.Refuse with a code that "+
			"does", statusOf(c.refusal).Code()))
	}
	answer, err := i.run(ctx, u, handlerName(method, c.command), c.run)
	if err == nil && c.verdict == Executed {
		err = i.checkReply(ctx, method, c.command, answer)
	}
	if err == nil {
		err = u.accept(ctx)
	}
	if err != nil {
		return failed(err)
	}
	u.storing = true
	if err := i.settle(ctx, u, &entry{command: c.command, verdict: c.verdict, answer: answer}); err != nil {
		return failed(u.lose(unavailable("storing the answer", err)))
	}
	return conclusion{verdict: c.verdict, keep: true}
}

// allowed returns the reason why the command can't end this way, or nil if it can.
func (c *completion) allowed(known seen, e *entry) error {
	switch {
	case e == nil:
		return ErrNotAccepted
	case e.verdict == Accepted && c.command.Direction == participant.Action && known.compensation != nil:
		return ErrCompensated
	case e.verdict == Accepted, e.verdict == c.verdict:
		return nil
	case e.verdict == Executed, e.verdict == Refused:
		return ErrCompleted
	default:
		return ErrNotAccepted
	}
}

// settle stores the end of an accepted command. The refusal of a compensation isn't stored, so that the compensation
// can be sent again.
func (i *Inbox) settle(ctx context.Context, tx querier, e *entry) error {
	if e.verdict == Refused && e.command.Direction == participant.Compensation {
		return i.ledger.drop(ctx, tx, e.command)
	}
	return i.ledger.settle(ctx, tx, e)
}
