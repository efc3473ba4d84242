package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/treatyhq/treaty/internal/incoming"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/participant"
)

// Handle runs a handler in a transaction and commits its effect together with its answer, at most once for the command
// id and direction in ctx. The handler must write through tx only. It may run more than once, and only its last run
// counts: all that the others wrote through tx is rolled back. What it returns decides the verdict:
//
//   - A reply: the effect and the reply are committed.
//   - A refusal, which is a status that refuses (see participant.IsRefusal and the contract's outcomes): the effect is
//     rolled back. The refusal of an action is stored in the same transaction, and late duplicates are refused as well,
//     even if the handler would now accept them: no compensation would follow. The refusal of a compensation isn't
//     stored, so that an operator can send it again.
//   - participant.Pending: the command is accepted. The effect is committed, and duplicates get the same answer without
//     the handler, until [Complete] or [Refuse] stores another one.
//   - Any other error: the effect is rolled back and nothing is stored. The next attempt runs the handler again.
//   - A reply that is larger than Options.MaxReplyBytes: a refusal with OUT_OF_RANGE in place of the reply, because the
//     orchestrator could never receive it. For a retriable command, which can't be refused for good, it is INTERNAL, so
//     that the command can succeed once the service is mended. Both are logged as errors.
//   - Neither a reply nor an error: INTERNAL.
//
// A handler that does any of the following fails, and nothing is committed. The caller gets INTERNAL, with what to
// write instead:
//
//   - It writes through the [sql.DB], which would wait for the handler's own transaction, or commits in another way.
//   - It calls the inbox again, except [ActionReply].
//   - It continues after its transaction was rolled back.
//
// In PostgreSQL, a write through the [sql.DB] can't be noticed, and neither can a call of another inbox function; a
// handler that commits is noticed too late. See [OpenPostgres].
//
// An effect elsewhere can't be noticed: in another database, at another service, or by a goroutine that the handler
// doesn't wait for.
//
// In these cases the handler doesn't run:
//
//   - A duplicate gets the stored answer.
//   - The compensation of an action that had no effect, because it never arrived or was refused, is a durable no-op
//     with an empty reply. The compensation of an accepted action does run its handler.
//   - An action whose compensation has arrived is refused with FAILED_PRECONDITION and ReasonCompensatedBefore, also if
//     it was executed before. One that its orchestrator has closed is refused with ReasonClosedBefore.
//   - A call with a lower fencing epoch than an earlier call of the same scope is answered with ABORTED and
//     ReasonStaleEpoch. A higher one is stored before anything else, and stays whatever the call comes to.
//   - A call for another request than that of an earlier call with the same command id is answered with INTERNAL and
//     ReasonOtherRequest, and a call of which it is no longer known whether it was handled before with ReasonPurged.
//
// A stored refusal of an action is settled, see participant.Settle: it holds for every attempt.
//
// An action and its compensation that arrive at the same time are handled one after the other. A call that isn't made
// for a saga runs the handler in a transaction and stores nothing.
//
// In SQLite, commands that wait at the same moment share a transaction, in which their handlers run one after the
// other, and are answered when it is committed. If it is rolled back, each runs again alone. A handler that takes
// longer than Options.HandlerBudget while others wait for the commit loses it and runs again, and its method's handlers
// run alone from then on. While others wait for the commit, the end of ctx doesn't interrupt a statement.
//
// Errors are gRPC statuses. If the database fails, also at the commit, the status is UNAVAILABLE: it is unknown whether
// the command was executed, and the next attempt finds out.
func Handle[R proto.Message](ctx context.Context, in *Inbox, handler func(tx *Tx) (R, error)) (R, error) {
	var none R
	reply := empty[R]()
	command, ok, err := commandOf(ctx)
	if err != nil {
		return none, err
	}
	h := handling{inbox: in, command: command, method: methodOf(ctx), inSaga: ok}
	answer, err := h.handle(ctx, replying(handler, &reply))
	if err != nil {
		return none, h.ended(ctx, err)
	}
	if h.verdict != Duplicate {
		in.purgeSometimes(ctx)
		return reply, nil
	}
	if err := proto.Unmarshal(answer, reply); err != nil {
		return none, fmt.Errorf("reading the stored reply of %s: %w", command.CommandID, err)
	}
	return reply, nil
}

// run is a handler that returns its reply serialized.
type run func(tx *Tx) ([]byte, error)

// replying returns a run that sets reply to what the handler replies.
func replying[R proto.Message](handler func(tx *Tx) (R, error), reply *R) run {
	return func(tx *Tx) ([]byte, error) {
		made, err := handler(tx)
		if err != nil {
			return nil, err
		}
		if !made.ProtoReflect().IsValid() {
			return nil, misused(tx.handler, "has returned neither a reply nor an error: to reply with nothing, return "+
				"an empty "+mistake(made.ProtoReflect().Descriptor().FullName()), nil)
		}
		*reply = made
		return proto.Marshal(made)
	}
}

func empty[R proto.Message]() R {
	var zero R
	return zero.ProtoReflect().Type().New().Interface().(R) //nolint:forcetypeassert // It was made from R's own type.
}

// handling is one call that is being handled.
type handling struct {
	inbox   *Inbox
	command participant.Command
	method  string
	inSaga  bool
	known   seen
	verdict Verdict
}

// ended returns the context's error for a call without a verdict that failed because its context ended. An interrupted
// database returns its own error, which doesn't wrap the context's.
func (h *handling) ended(ctx context.Context, err error) error {
	var failed *databaseError
	var said interface{ GRPCStatus() *status.Status }
	if ctx.Err() == nil || h.verdict != "" || errors.As(err, &said) && !errors.As(err, &failed) {
		return err
	}
	return status.FromContextError(ctx.Err()).Err()
}

func (h *handling) handle(ctx context.Context, handler run) (answer []byte, err error) {
	if h.inSaga {
		if err := participant.CheckEpoch(h.command.Epoch, time.Now()); err != nil {
			return nil, err
		}
	}
	for {
		answer, raise, err := h.tryHandle(ctx, handler)
		if !raise {
			return answer, err
		}
		// The scope's epoch is raised first, and stays whatever the handler comes to.
		caller := participant.Caller{Scope: h.command.Scope, Epoch: h.command.Epoch}
		if _, err := h.inbox.Hear(ctx, caller, nil); err != nil {
			if status.Code(err) == codes.Aborted {
				h.verdict = Stale
				h.report(ctx)
			}
			return nil, err
		}
	}
}

// tryHandle handles the call, unless the scope's epoch has to be raised before.
func (h *handling) tryHandle(ctx context.Context, handler run) (answer []byte, raise bool, err error) {
	work := func(u *unit) conclusion { return h.conclude(ctx, u, handler) }
	var done conclusion
	if h.inSaga {
		done = h.inbox.transact(ctx, h.command.CommandID, h.method, work)
	} else {
		done = h.inbox.alone(ctx, "", work)
	}
	if done.verdict != "" {
		h.verdict = done.verdict
		h.report(ctx)
	}
	return done.answer, done.raise, done.err
}

// transact does work in a transaction, and commits it if it is to be kept. The transaction may be shared with other
// calls. Then work may be done more than once, and only the last time counts.
func (i *Inbox) transact(ctx context.Context, commandID, method string, work func(*unit) conclusion) conclusion {
	if c := i.ledger.together(i.db); c != nil {
		if done, ok := c.handle(ctx, member{method: method, budget: i.options.HandlerBudget, work: work}); ok {
			return done
		}
	}
	return i.alone(ctx, commandID, work)
}

// alone does work in a transaction of its own, and commits it if it is to be kept. Work is done again if the database
// has ended the transaction because of others.
func (i *Inbox) alone(ctx context.Context, commandID string, work func(*unit) conclusion) conclusion {
	var done conclusion
	err := i.repeated(ctx, func() error {
		done = i.once(ctx, commandID, work)
		return done.err
	})
	if err != nil && i.ledger.conflicts(err) {
		return failed(unavailable("repeating a transaction that others keep from ending", err))
	}
	return done
}

// once does work in a transaction, and commits it if it is to be kept.
func (i *Inbox) once(ctx context.Context, commandID string, work func(*unit) conclusion) conclusion {
	tx, done, err := i.ledger.begin(ctx, i.db, commandID)
	if err != nil {
		return failed(unavailable("beginning a transaction", err))
	}
	defer done()
	// This also runs if the handler panics. After the commit it does nothing.
	defer func() { _ = rollback(tx.Tx) }()
	made := work(&unit{querier: tx, handlers: tx, conn: tx.conn, savepoint: ownSavepoint})
	if made.keep {
		if err := commit(tx.Tx); err != nil {
			return failed(err)
		}
	}
	return made
}

// conclude decides about the call in a transaction.
func (h *handling) conclude(ctx context.Context, u *unit, handler run) conclusion {
	if !h.inSaga {
		answer, err := h.inbox.run(ctx, u, handlerName(h.method, h.command), handler)
		return conclusion{answer: answer, err: err, keep: err == nil}
	}
	known, err := h.inbox.ledger.look(ctx, u, h.command)
	if err != nil {
		return failed(u.lose(unavailable("looking the command up", err)))
	}
	if h.command.Scope != "" && (known.unheard || h.command.Epoch > known.epoch) {
		return conclusion{raise: true}
	}
	h.known = known
	return h.decide(ctx, u, known, handler)
}

// decide finds the verdict and acts on it.
func (h *handling) decide(ctx context.Context, u *unit, known seen, handler run) conclusion {
	before := known.in(h.command.Direction)
	other := known.other(h.command, h.method)
	undone := h.command.Direction == participant.Action && known.compensation != nil
	switch {
	case h.command.Epoch < known.epoch:
		return conclusion{verdict: Stale, err: stale(h.command.CommandID, h.command.Epoch, known.epoch)}
	case other != nil:
		return conclusion{verdict: OtherRequest, err: otherRequest(h.command, other)}
	case before != nil:
		return h.repeat(ctx, u, before, undone)
	case undone:
		return h.store(ctx, u, RefusedLate, nil, compensatedBefore(h.command))
	case known.purged(h.command):
		return conclusion{verdict: Purged, err: purgedBefore(h.command)}
	case h.command.Direction == participant.Compensation && !known.hasEffect():
		return h.store(ctx, u, NullCompensated, nil, nil)
	default:
		return h.execute(ctx, u, handler)
	}
}

// repeat answers a duplicate. An action that was compensated is refused, whatever it was answered before.
func (h *handling) repeat(ctx context.Context, u *unit, before *entry, undone bool) conclusion {
	if verdict, err := h.inbox.outdated(ctx, u, h.command, h.known); err != nil {
		return conclusion{verdict: verdict, err: err}
	}
	u.storing = true
	if err := h.inbox.ledger.duplicate(ctx, u, h.command); err != nil {
		return failed(u.lose(unavailable("counting a duplicate", err)))
	}
	done := conclusion{verdict: Duplicate, keep: true}
	switch {
	case undone:
		if before.verdict != RefusedLate {
			done.verdict = RefusedLate
		}
		done.err = participant.Settle(compensatedBefore(h.command))
	case before.verdict == Accepted:
		done.err = participant.Pending(before.wait())
	case before.refused():
		done.err = participant.Settle(before.refusal())
	default:
		done.answer = before.answer
	}
	return done
}

// compensatedBefore refuses an action whose compensation has arrived.
func compensatedBefore(command participant.Command) error {
	return refusal(codes.FailedPrecondition, ReasonCompensatedBefore, command.CommandID+" was compensated", nil)
}

// closedBefore refuses an action that its orchestrator has closed.
func closedBefore(command participant.Command) error {
	return refusal(codes.FailedPrecondition, ReasonClosedBefore,
		command.CommandID+" was closed by its orchestrator before it arrived", nil)
}

// stale refuses a call of an orchestrator process that was replaced.
func stale(what string, epoch, known uint64) error {
	return refusal(codes.Aborted, ReasonStaleEpoch, fmt.Sprintf("%s was sent under epoch %d, which epoch %d has "+
		"replaced",
		what, epoch, known), map[string]string{wire.ErrorEpoch: strconv.FormatUint(known, 10)})
}

// otherRequest refuses a command whose id is known for another request.
func otherRequest(command participant.Command, known *entry) error {
	return refusal(codes.Internal, ReasonOtherRequest, fmt.Sprintf(
		"another request is known under %s: %s %s, with the digest %q", command.CommandID, known.method,
		known.command.Direction, known.command.RequestDigest),
		map[string]string{
			wire.ErrorMethod: strings.TrimPrefix(known.method, "/"), wire.ErrorDigest: known.command.RequestDigest,
		})
}

// purgedBefore refuses a command whose row may have been purged.
func purgedBefore(command participant.Command) error {
	return refusal(codes.Internal, ReasonPurged, "it is no longer known what became of "+command.CommandID+
		": its orchestrator had said that it sends no more commands of sagas that started before it", nil)
}

// execute runs the handler. The effect of a refused action is rolled back to a savepoint, so that no other transaction
// can run before the refusal is stored.
func (h *handling) execute(ctx context.Context, u *unit, handler run) conclusion {
	answer, err := h.inbox.run(ctx, u, handlerName(h.method, h.command), handler)
	if err == nil {
		err = h.inbox.checkReply(ctx, h.method, h.command, answer)
	}
	wait, accepted := participant.IsPending(err)
	switch {
	case u.revoked != nil || u.lost:
		return failed(err)
	case err == nil, accepted:
		if lost := u.accept(ctx); lost != nil {
			return failed(lost)
		}
		if accepted {
			done := h.store(ctx, u, Accepted, marshalWait(wait), nil)
			if done.err == nil {
				done.err = err
			}
			return done
		}
		return h.store(ctx, u, Executed, answer, nil)
	case h.command.Direction == participant.Action && refuses(h.method, h.command.Direction, err):
		if lost := u.undo(ctx); lost != nil {
			return failed(errors.Join(lost, err))
		}
		return h.store(ctx, u, Refused, nil, err)
	default:
		return failed(err)
	}
}

// store adds the command's row. Its conclusion has the answer, or the refusal if there is one.
func (h *handling) store(ctx context.Context, u *unit, verdict Verdict, answer []byte, refused error) conclusion {
	if refused != nil {
		var err error
		if answer, err = marshalRefusal(h.command, refused); err != nil {
			return failed(err)
		}
	}
	if verdict, err := h.inbox.outdated(ctx, u, h.command, h.known); err != nil {
		return conclusion{verdict: verdict, err: err}
	}
	e := &entry{command: h.command, method: h.method, verdict: verdict, answer: answer}
	u.storing = true
	if err := h.inbox.ledger.add(ctx, u, e); err != nil {
		return failed(u.lose(unavailable("storing the answer", err)))
	}
	return conclusion{answer: answer, err: participant.Settle(refused), verdict: verdict, keep: true}
}

// outdated returns an error if a command must not be committed any more, because its orchestrator was replaced or has
// told a later horizon since the command was looked up. Otherwise, that can't happen until the transaction ends. The
// verdict is empty if the database failed.
func (i *Inbox) outdated(ctx context.Context, tx querier, command participant.Command, known seen) (Verdict, error) {
	scope, err := i.ledger.hold(ctx, tx, command)
	if err != nil {
		return "", unavailable("looking the scope up again", err)
	}
	if scope == nil {
		return "", nil
	}
	known.horizon = scope.horizon
	switch {
	case command.Epoch < scope.epoch:
		return Stale, stale(command.CommandID, command.Epoch, scope.epoch)
	case known.purged(command):
		return Purged, purgedBefore(command)
	default:
		return "", nil
	}
}

// handlerName says in errors which handler it is.
func handlerName(method string, command participant.Command) string {
	switch {
	case method != "":
		return "the handler of " + strings.TrimPrefix(method, "/")
	case command.CommandID != "":
		return "the handler of " + command.CommandID
	default:
		return "the handler"
	}
}

// checkReply returns the error for a reply that the orchestrator couldn't receive.
func (i *Inbox) checkReply(ctx context.Context, method string, command participant.Command, answer []byte) error {
	limit := i.options.MaxReplyBytes
	if server := incoming.MaxReplyBytes(ctx); server > 0 {
		limit = min(limit, server)
	}
	if len(answer) <= limit {
		return nil
	}
	text := fmt.Sprintf("the reply has %d bytes, and at most %d are allowed: store the data and reply with its name",
		len(answer), limit)
	slog.ErrorContext(ctx, "a handler's reply is too large; its effect was rolled back", "method", method,
		"command_id", command.CommandID, "direction", string(command.Direction), "bytes", len(answer), "limit", limit)
	if contractOf(method).GetRetriable() != nil && command.Direction == participant.Action {
		return status.Error(codes.Internal, text)
	}
	return status.Error(codes.OutOfRange, text)
}

func marshalRefusal(command participant.Command, refused error) ([]byte, error) {
	answer, err := proto.Marshal(statusOf(refused).Proto())
	if err != nil {
		return nil, fmt.Errorf("storing the refusal of %s: %w", command.CommandID, err)
	}
	return answer, nil
}

// statusOf returns the status in an error, without the text of wrapping errors.
func statusOf(err error) *status.Status {
	var s interface{ GRPCStatus() *status.Status }
	if errors.As(err, &s) {
		return s.GRPCStatus()
	}
	return status.Convert(err)
}

func (h *handling) report(ctx context.Context) { h.inbox.report(ctx, h.command.Direction, h.verdict) }

// report records a verdict in the current span and in the metric.
func (i *Inbox) report(ctx context.Context, direction participant.Direction, v Verdict) {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.SetAttributes(attribute.String(verdictKey, string(v)))
	}
	if i.verdicts.Enabled(ctx) {
		i.verdicts.Add(ctx, 1, i.counted[counted{direction, v}]...)
	}
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
	// A server without participant.UnaryServerInterceptor.
	md, _ := metadata.FromIncomingContext(ctx)
	c, ok, err := participant.ParseMetadata(md)
	if err != nil {
		return c, false, status.Error(codes.InvalidArgument, err.Error())
	}
	return c, ok, nil
}

// methodOf returns the called method, "/package.Service/Method". It is empty outside of a gRPC server.
func methodOf(ctx context.Context) string {
	method, _ := grpc.Method(ctx)
	return method
}

func refusal(code codes.Code, reason, message string, more map[string]string) error {
	s, err := status.New(code, message).WithDetails(&errdetails.ErrorInfo{
		Domain: wire.ErrorDomain, Reason: reason, Metadata: more,
	})
	if err != nil {
		return status.Error(code, message)
	}
	return s.Err()
}
