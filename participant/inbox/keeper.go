package inbox

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/participant"
)

var _ participant.Keeper = (*Inbox)(nil)

// maxList is the largest number of rows in a page.
const maxList = 1000

// keptMethods returns the methods of services and methods, sorted.
func keptMethods(names []string) ([]string, error) {
	var methods []string
	for _, name := range names {
		if strings.Contains(name, "/") {
			methods = append(methods, name)
			continue
		}
		found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
		service, is := found.(protoreflect.ServiceDescriptor)
		if err != nil || !is {
			return nil, fmt.Errorf("there is no service %q in the contracts that are linked into this program: "+
				"write the full name of a service, or of a method such as acme.card.v1.CardService/IssueCard", name)
		}
		for i := range service.Methods().Len() {
			methods = append(methods, name+"/"+string(service.Methods().Get(i).Name()))
		}
	}
	slices.Sort(methods)
	return slices.Compact(methods), nil
}

// KeptMethods implements participant.Keeper. The methods are those of Options.Methods.
func (i *Inbox) KeptMethods() []string { return slices.Clone(i.kept) }

// transaction calls f in a transaction, and commits it if f returns nil. It may call it more than once.
func (i *Inbox) transaction(ctx context.Context, commandID, doing string, f func(tx *sql.Tx) error) error {
	return i.repeated(ctx, func() error {
		tx, done, err := i.ledger.begin(ctx, i.db, commandID)
		if err != nil {
			return unavailable(doing, err)
		}
		defer done()
		defer func() { _ = rollback(tx.Tx) }()
		if err := f(tx.Tx); err != nil {
			if _, said := status.FromError(err); said {
				return err
			}
			return unavailable(doing, err)
		}
		return commit(tx.Tx)
	})
}

// Hear implements participant.Keeper.
func (i *Inbox) Hear(
	ctx context.Context, caller participant.Caller, told *treatyv1.DescribeRequest,
) (heard *treatyv1.HeardScope, err error) {
	err = i.transaction(ctx, "", "hearing of an epoch", func(tx *sql.Tx) error {
		known, err := i.ledger.scope(ctx, tx, caller.Scope)
		if err != nil {
			return err
		}
		next, err := known.hear(caller, told)
		if err == nil && (known == nil || *next != *known) {
			// Others may have changed it meanwhile.
			if known, err = i.ledger.lockScope(ctx, tx, caller.Scope); err != nil {
				return err
			}
			next, err = known.hear(caller, told)
		}
		heard = known.heard()
		if err != nil || known != nil && *next == *known {
			return err
		}
		if store := told.GetStoreId(); known != nil && known.storeID != "" && store != "" && known.storeID != store {
			slog.ErrorContext(ctx, "two orchestrators with different stores have the same name: give each a name of "+
				"its own", "scope", caller.Scope, "store", store, "other", known.storeID)
		}
		return i.ledger.putScope(ctx, tx, next)
	})
	if err != nil {
		return nil, err
	}
	return heard, nil
}

// heard returns what an orchestrator is told of its scope. The row may be nil.
func (r *scopeRow) heard() *treatyv1.HeardScope {
	if r == nil {
		return nil
	}
	heard := &treatyv1.HeardScope{Epoch: r.epoch, Position: r.position, StoreId: r.storeID}
	if !r.horizon.IsZero() {
		heard.Horizon = timestamppb.New(r.horizon)
	}
	return heard
}

// hear returns what is known of a scope after a call from it. The row may be nil.
func (r *scopeRow) hear(caller participant.Caller, told *treatyv1.DescribeRequest) (*scopeRow, error) {
	next := &scopeRow{name: caller.Scope}
	if r != nil {
		if caller.Epoch < r.epoch {
			return nil, stale("a call of "+caller.Scope, caller.Epoch, r.epoch)
		}
		*next = *r
	}
	next.epoch = max(next.epoch, caller.Epoch)
	if told == nil {
		return next, nil
	}
	next.position = max(next.position, told.GetPosition())
	if told.GetStoreId() != "" {
		next.storeID = told.GetStoreId()
	}
	if horizon := told.GetHorizon(); horizon.IsValid() && horizon.AsTime().After(next.horizon) {
		next.horizon = horizon.AsTime()
	}
	return next, nil
}

// DropScope forgets an orchestrator that is gone for good: its rows are purged like those of sagas that have ended, by
// the retention alone. A command of a saga that started before this call isn't executed any more.
func DropScope(ctx context.Context, in *Inbox, scope string) error {
	return in.transaction(ctx, "", "dropping the scope "+scope, func(tx *sql.Tx) error {
		known, err := in.ledger.lockScope(ctx, tx, scope)
		if err != nil {
			return err
		}
		if known == nil {
			known = &scopeRow{name: scope}
		}
		known.horizon = time.Now()
		return in.ledger.putScope(ctx, tx, known)
	})
}

// ListCommands implements participant.Keeper.
func (i *Inbox) ListCommands(
	ctx context.Context, caller participant.Caller, request *treatyv1.ListCommandsRequest,
) (*treatyv1.ListCommandsResponse, error) {
	if _, err := i.Hear(ctx, caller, nil); err != nil {
		return nil, err
	}
	size := int(request.GetPageSize())
	if size <= 0 || size > maxList {
		size = maxList
	}
	response := new(treatyv1.ListCommandsResponse)
	err := i.transaction(ctx, "", "listing commands", func(tx *sql.Tx) error {
		response.Reset()
		if len(request.GetSagas()) == 0 {
			return i.listSince(ctx, tx, caller, request, size, response)
		}
		return i.listSagas(ctx, tx, caller, request, size, response)
	})
	if err != nil {
		return nil, err
	}
	return response, nil
}

func (i *Inbox) listSince(
	ctx context.Context, tx *sql.Tx, caller participant.Caller, request *treatyv1.ListCommandsRequest, size int,
	response *treatyv1.ListCommandsResponse,
) error {
	selection := listSelection{scope: caller.Scope, since: request.GetSince().AsTime(), limit: size}
	if token := request.GetPageToken(); token != "" {
		after, err := strconv.ParseInt(token, 10, 64)
		if err != nil {
			return errPageToken
		}
		selection.after = after
	}
	return i.ledger.list(ctx, tx, selection, func(row *listedRow) error {
		response.Commands = append(response.Commands, row.known())
		if len(response.GetCommands()) == size {
			response.NextPageToken = strconv.FormatInt(row.sequence, 10)
		}
		return nil
	})
}

var errPageToken = status.Error(codes.InvalidArgument, "page_token: isn't one that this participant has returned")

// listSagas lists the rows of sagas, one saga after the other. The page token is the last command id and direction.
func (i *Inbox) listSagas(
	ctx context.Context, tx *sql.Tx, caller participant.Caller, request *treatyv1.ListCommandsRequest, size int,
	response *treatyv1.ListCommandsResponse,
) error {
	sagas := slices.Clone(request.GetSagas())
	slices.Sort(sagas)
	selection := listSelection{scope: caller.Scope}
	if token := request.GetPageToken(); token != "" {
		commandID, direction, found := strings.Cut(token, " ")
		if !found {
			return errPageToken
		}
		selection.commandID, selection.direction = commandID, participant.Direction(direction)
	}
	for _, saga := range slices.Compact(sagas) {
		if _, last := sagaRange(saga); last < selection.commandID {
			continue
		}
		selection.saga, selection.limit = saga, size-len(response.GetCommands())
		if err := i.ledger.list(ctx, tx, selection, func(row *listedRow) error {
			response.Commands = append(response.Commands, row.known())
			return nil
		}); err != nil {
			return err
		}
		if n := len(response.GetCommands()); n == size {
			last := response.GetCommands()[n-1]
			response.NextPageToken = last.GetCommandId() + " " + wireDirection(last.GetDirection())
			return nil
		}
	}
	return nil
}

func wireDirection(direction treatyv1.StepDirection) string {
	if direction == treatyv1.StepDirection_STEP_DIRECTION_COMPENSATION {
		return wire.Compensation
	}
	return wire.Action
}

// known returns a row as orchestrators see it.
func (r *listedRow) known() *treatyv1.KnownCommand {
	command := &treatyv1.KnownCommand{
		CommandId: r.command.CommandID, Direction: treatyv1.StepDirection_STEP_DIRECTION_ACTION,
		Method: strings.TrimPrefix(r.method, "/"), Verdict: verdictNumbers[r.verdict],
		RequestDigest: r.command.RequestDigest, UpdateTime: timestamppb.New(r.updated),
	}
	if r.command.Direction == participant.Compensation {
		command.Direction = treatyv1.StepDirection_STEP_DIRECTION_COMPENSATION
	}
	if !r.command.Start.IsZero() {
		command.SagaStart = timestamppb.New(r.command.Start)
	}
	return command
}

var verdictNumbers = map[Verdict]treatyv1.CommandVerdict{
	Executed:        treatyv1.CommandVerdict_COMMAND_VERDICT_EXECUTED,
	Accepted:        treatyv1.CommandVerdict_COMMAND_VERDICT_ACCEPTED,
	Refused:         treatyv1.CommandVerdict_COMMAND_VERDICT_REFUSED,
	NullCompensated: treatyv1.CommandVerdict_COMMAND_VERDICT_NULL_COMPENSATED,
	RefusedLate:     treatyv1.CommandVerdict_COMMAND_VERDICT_REFUSED_LATE,
	Closed:          treatyv1.CommandVerdict_COMMAND_VERDICT_CLOSED,
}

// CloseCommand implements participant.Keeper.
func (i *Inbox) CloseCommand(
	ctx context.Context, caller participant.Caller, request *treatyv1.CloseCommandRequest,
) (response *treatyv1.CloseCommandResponse, err error) {
	if _, err := i.Hear(ctx, caller, nil); err != nil {
		return nil, err
	}
	response = new(treatyv1.CloseCommandResponse)
	if !slices.Contains(i.kept, request.GetMethod()) {
		response.Outcome = &treatyv1.CloseCommandResponse_NotKept_{NotKept: &treatyv1.CloseCommandResponse_NotKept{}}
		return response, nil
	}
	saga, _, _ := wire.SplitStep(request.GetCommandId())
	command := participant.Command{
		Saga: saga, CommandID: request.GetCommandId(), Direction: participant.Action, Attempt: 0,
		Epoch: caller.Epoch, Scope: caller.Scope, RequestDigest: request.GetRequestDigest(),
	}
	if start := request.GetSagaStart(); start.IsValid() && start.AsTime().UnixMicro() > 0 {
		command.Start = start.AsTime()
	}
	err = i.transaction(ctx, command.CommandID, "closing a command", func(tx *sql.Tx) error {
		known, err := i.ledger.look(ctx, tx, command)
		if err != nil {
			return err
		}
		return i.closeKnown(ctx, tx, command, "/"+request.GetMethod(), known, response)
	})
	if err != nil {
		return nil, err
	}
	return response, nil
}

func (i *Inbox) closeKnown(
	ctx context.Context, tx *sql.Tx, command participant.Command, method string, known seen,
	response *treatyv1.CloseCommandResponse,
) error {
	if other := known.other(command, method); other != nil {
		return otherRequest(command, other)
	}
	action := known.action
	switch {
	case known.compensation != nil:
		response.Outcome = &treatyv1.CloseCommandResponse_Compensated_{
			Compensated: &treatyv1.CloseCommandResponse_Compensated{},
		}
	case action == nil && known.purged(command):
		return purgedBefore(command)
	case action == nil:
		answer, err := marshalRefusal(command, closedBefore(command))
		if err != nil {
			return err
		}
		if _, err := i.outdated(ctx, tx, command, known); err != nil {
			return err
		}
		response.Outcome = &treatyv1.CloseCommandResponse_Closed_{Closed: &treatyv1.CloseCommandResponse_Closed{}}
		return i.ledger.add(ctx, tx, &entry{command: command, method: method, verdict: Closed, answer: answer})
	case action.verdict == Executed:
		response.Outcome = &treatyv1.CloseCommandResponse_Executed_{
			Executed: &treatyv1.CloseCommandResponse_Executed{Reply: action.answer},
		}
	case action.verdict == Accepted:
		response.Outcome = &treatyv1.CloseCommandResponse_Accepted_{Accepted: &treatyv1.CloseCommandResponse_Accepted{}}
	case action.verdict == Closed:
		response.Outcome = &treatyv1.CloseCommandResponse_Closed_{Closed: &treatyv1.CloseCommandResponse_Closed{}}
	default:
		st := statusOf(action.refusal())
		response.Outcome = &treatyv1.CloseCommandResponse_Refused_{Refused: &treatyv1.CloseCommandResponse_Refused{
			Failure: &treatyv1.Failure{
				Code: int32(st.Code()), Message: st.Message(), Details: st.Proto().GetDetails(),
			},
		}}
	}
	return nil
}
