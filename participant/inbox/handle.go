package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/treatyhq/treaty/participant"
)

// Handle runs a handler in a transaction and commits its effect together with its reply, at most once for the command id and
// direction of ctx. The handler must write through tx alone and must neither commit nor roll it back.
//
//   - A duplicate gets the stored reply or the stored refusal. The handler doesn't run.
//   - A refusal (a status that refuses, see participant.IsRefusal and the contract's outcomes) rolls the handler's effect back.
//     An action's refusal is stored in the same transaction: whatever has changed by then, a late duplicate is refused as
//     well, for nobody would undo it. A compensation's refusal isn't, so that an operator can send it again.
//   - An error of participant.Pending accepts: the handler's effect is committed, and a duplicate gets the same answer without the handler,
//     until [Complete] or [Refuse] stores another one. An undo that comes before that runs its handler.
//   - Any other error rolls the effect back and stores nothing: the next attempt runs the handler again.
//   - An undo of an action that has had no effect (it never came, or it was refused) is a durable no-op: the handler doesn't run and the
//     reply is empty. An action that comes after its undo is refused with FAILED_PRECONDITION and ReasonCompensatedBefore.
//   - A call under a lower epoch than one that the saga was handled under before is turned away with ABORTED and ReasonStaleEpoch.
//
// An action and its undo that come together are handled one after the other. A call that isn't made for a saga just runs the
// handler in a transaction.
//
// Errors are gRPC statuses. When the database fails, also at the commit, it is UNAVAILABLE: whether the command was
// executed is open, and the next attempt finds out.
func Handle[R proto.Message](ctx context.Context, i *Inbox, handler func(tx *sql.Tx) (R, error)) (R, error) {
	var none R
	reply := empty[R]()
	command, ok, err := commandOf(ctx)
	if err != nil {
		return none, err
	}
	h := handling{inbox: i, command: command, method: methodOf(ctx), inSaga: ok}
	answer, err := h.handle(ctx, func(tx *sql.Tx) ([]byte, error) {
		made, err := handler(tx)
		if err != nil {
			return nil, err
		}
		if made.ProtoReflect().IsValid() {
			reply = made
		}
		return proto.Marshal(reply)
	})
	if err != nil {
		return none, h.ended(ctx, err)
	}
	if h.verdict != Duplicate {
		i.purgeSometimes(ctx)
		return reply, nil
	}
	if err := proto.Unmarshal(answer, reply); err != nil {
		return none, fmt.Errorf("reading the stored reply of %s: %w", command.CommandID, err)
	}
	return reply, nil
}

func empty[R proto.Message]() R {
	var zero R
	return zero.ProtoReflect().Type().New().Interface().(R) //nolint:forcetypeassert // it was made from R's own type
}

// handling is one call being handled.
type handling struct {
	inbox   *Inbox
	command participant.Command
	method  string
	inSaga  bool
	verdict Verdict
}

// ended says that the call's time was over when that is why nothing came of it. A database says in words of its own that it was interrupted.
func (h *handling) ended(ctx context.Context, err error) error {
	var failed *databaseError
	var said interface{ GRPCStatus() *status.Status }
	if ctx.Err() == nil || h.verdict != "" || errors.As(err, &said) && !errors.As(err, &failed) {
		return err
	}
	return status.FromContextError(ctx.Err()).Err()
}

// run is a handler that returns its serialized reply.
type run func(tx *sql.Tx) ([]byte, error)

func (h *handling) handle(ctx context.Context, handler run) (answer []byte, err error) {
	tx, done, err := h.inbox.ledger.begin(ctx, h.inbox.db, h.command.CommandID)
	if err != nil {
		return nil, unavailable("beginning a transaction", err)
	}
	defer done()
	// Also when the handler panics. After the commit it does nothing.
	defer func() { _ = rollback(tx) }()

	if !h.inSaga {
		if answer, err = handler(tx); err != nil {
			return nil, err
		}
		return answer, commit(tx)
	}
	known, err := h.inbox.ledger.look(ctx, tx, h.command)
	if err != nil {
		return nil, unavailable("looking the command up", err)
	}
	answer, err = h.decide(ctx, tx, known, handler)
	if h.verdict != "" {
		h.report(ctx)
	}
	return answer, err
}

// decide finds the verdict and acts on it. It leaves the verdict empty when nothing came of the call.
func (h *handling) decide(ctx context.Context, tx *sql.Tx, known seen, handler run) ([]byte, error) {
	before := known.in(h.command.Direction)
	switch {
	case h.command.Epoch < known.epoch:
		h.verdict = Stale
		return nil, refusal(codes.Aborted, ReasonStaleEpoch, fmt.Sprintf("%s was sent under epoch %d, and epoch %d has begun", h.command.CommandID, h.command.Epoch, known.epoch))
	case before != nil:
		return h.repeat(ctx, tx, before, known)
	case h.command.Direction == participant.Action && known.compensation != nil:
		return nil, h.store(ctx, tx, RefusedLate, nil, undoneBefore(h.command))
	case h.command.Direction == participant.Compensation && (!known.mayBeUndone()):
		return nil, h.store(ctx, tx, NullCompensated, nil, nil)
	default:
		return h.execute(ctx, tx, handler)
	}
}

// repeat answers a duplicate.
func (h *handling) repeat(ctx context.Context, tx *sql.Tx, before *entry, known seen) ([]byte, error) {
	if before.method != h.method && before.method != "" && h.method != "" {
		return nil, status.Errorf(codes.Internal, "%s (%s) was sent to %s before and comes to %s now", h.command.CommandID, h.command.Direction, before.method, h.method)
	}
	if err := h.inbox.ledger.duplicate(ctx, tx, h.command); err != nil {
		return nil, unavailable("counting a duplicate", err)
	}
	if err := commit(tx); err != nil {
		return nil, err
	}
	h.verdict = Duplicate
	switch {
	case before.verdict == Accepted && h.command.Direction == participant.Action && known.compensation != nil:
		h.verdict = RefusedLate // it was never completed, and its undo has taken back what there was
		return nil, undoneBefore(h.command)
	case before.verdict == Accepted:
		return nil, participant.Pending(before.patience())
	case before.refused():
		return nil, before.refusal()
	default:
		return before.answer, nil
	}
}

// undoneBefore refuses an action whose undo came first.
func undoneBefore(command participant.Command) error {
	return refusal(codes.FailedPrecondition, ReasonCompensatedBefore, command.CommandID+" was undone before it arrived or was completed")
}

// execute runs the handler. A refused action's effect is rolled back to a savepoint, so that no other transaction comes between it and
// the storing of the refusal.
func (h *handling) execute(ctx context.Context, tx *sql.Tx, handler run) ([]byte, error) {
	if _, err := tx.ExecContext(ctx, `SAVEPOINT treaty_handler`); err != nil {
		return nil, unavailable("setting a savepoint", err)
	}
	answer, err := handler(tx)
	wait, accepted := participant.IsPending(err)
	switch {
	case err == nil:
		return answer, h.store(ctx, tx, Executed, answer, nil)
	case accepted:
		if storeErr := h.store(ctx, tx, Accepted, patience(wait), nil); storeErr != nil {
			return nil, storeErr
		}
		return nil, err
	case h.command.Direction == participant.Action && refuses(h.method, h.command.Direction, err):
		if _, rollbackErr := tx.ExecContext(ctx, `ROLLBACK TO treaty_handler`); rollbackErr != nil {
			return nil, unavailable("rolling a refused command back", errors.Join(rollbackErr, err))
		}
		return nil, h.store(ctx, tx, Refused, nil, err)
	default:
		return nil, err
	}
}

// store adds the command's row, commits, and returns the refusal, if any.
func (h *handling) store(ctx context.Context, tx *sql.Tx, verdict Verdict, answer []byte, refused error) error {
	if refused != nil {
		var err error
		if answer, err = marshalRefusal(h.command, refused); err != nil {
			return err
		}
	}
	e := &entry{command: h.command, method: h.method, verdict: verdict, answer: answer}
	if err := h.inbox.ledger.add(ctx, tx, e); err != nil {
		return unavailable("storing the answer", err)
	}
	if err := commit(tx); err != nil {
		return err
	}
	h.verdict = verdict
	return refused
}

func marshalRefusal(command participant.Command, refused error) ([]byte, error) {
	answer, err := proto.Marshal(statusOf(refused).Proto())
	if err != nil {
		return nil, fmt.Errorf("storing the refusal of %s: %w", command.CommandID, err)
	}
	return answer, nil
}

// statusOf returns the status in an error, without the text of what wraps it.
func statusOf(err error) *status.Status {
	var s interface{ GRPCStatus() *status.Status }
	if errors.As(err, &s) {
		return s.GRPCStatus()
	}
	return status.Convert(err)
}

func (h *handling) report(ctx context.Context) { h.inbox.report(ctx, h.command.Direction, h.verdict) }

// report says what became of a command, in the present span and in the metric.
func (i *Inbox) report(ctx context.Context, direction participant.Direction, v Verdict) {
	verdict := attribute.String("treaty.inbox.verdict", string(v))
	trace.SpanFromContext(ctx).SetAttributes(verdict)
	i.verdicts.Add(ctx, 1, metric.WithAttributes(verdict, attribute.String("treaty.direction", string(direction))))
}

func commit(tx *sql.Tx) error {
	if err := tx.Commit(); err != nil {
		return unavailable("committing", err)
	}
	return nil
}

func commandOf(ctx context.Context) (participant.Command, bool, error) {
	if c, ok := participant.FromContext(ctx); ok {
		return c, true, nil
	}
	// A server that wasn't made by participant.NewServer.
	md, _ := metadata.FromIncomingContext(ctx)
	c, ok, err := participant.ParseMetadata(md)
	if err != nil {
		return c, false, status.Error(codes.InvalidArgument, err.Error())
	}
	return c, ok, nil
}

// methodOf returns the method that is called, "/package.Service/Method"; empty outside of a gRPC server.
func methodOf(ctx context.Context) string {
	method, _ := grpc.Method(ctx)
	return method
}

func refusal(code codes.Code, reason, message string) error {
	s, err := status.New(code, message).WithDetails(&errdetails.ErrorInfo{Domain: "treaty", Reason: reason})
	if err != nil {
		return status.Error(code, message)
	}
	return s.Err()
}
