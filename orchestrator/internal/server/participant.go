package server

import (
	"context"
	"errors"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/incoming"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/childsaga"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/untrusted"
)

// childKeeper says what became of the commands of other orchestrators that start and compensate child sagas here. The
// store keeps each of these sagas, so this orchestrator is their participant.
type childKeeper struct{ *Server }

var _ incoming.Keeper = childKeeper{}

// KeptMethods returns the methods that start child sagas. Those that compensate them aren't kept by themselves: a child
// that had failed when its parent compensates it stays as it is.
func (k childKeeper) KeptMethods() []string {
	var methods []string
	for name, d := range k.definitions {
		if d.Kind != treatyv1.CommandKind_COMMAND_KIND_UNSPECIFIED {
			methods = append(methods, name)
		}
	}
	slices.Sort(methods)
	return methods
}

// Hear stores what an orchestrator says about its scope, and returns what was known before.
func (k childKeeper) Hear(
	ctx context.Context, caller incoming.Caller, told *treatyv1.DescribeRequest,
) (*treatyv1.HeardScope, error) {
	if told == nil {
		return nil, k.scopes.hear(ctx, caller)
	}
	now := journal.HeardScope{
		Scope: caller.Scope, Epoch: caller.Epoch, Position: told.GetPosition(), StoreID: told.GetStoreId(),
	}
	if told.GetHorizon().IsValid() {
		now.Horizon = told.GetHorizon().AsTime()
	}
	before, err := k.scopes.tell(ctx, now)
	if err != nil || before.Scope == "" {
		return nil, err
	}
	heard := &treatyv1.HeardScope{Epoch: before.Epoch, Position: before.Position, StoreId: before.StoreID}
	if !before.Horizon.IsZero() {
		heard.Horizon = timestamppb.New(before.Horizon)
	}
	return heard, nil
}

// ListCommands returns a page of the commands of the caller's scope, child by child. The commands of one child are on
// one page. The page token names the last parent and its last child.
func (k childKeeper) ListCommands(
	ctx context.Context, caller incoming.Caller, request *treatyv1.ListCommandsRequest,
) (*treatyv1.ListCommandsResponse, error) {
	if err := k.engine.Condition(); errors.Is(err, engine.ErrReplaced) {
		return nil, err // what this store holds is out of date
	}
	var last *journal.Row
	if token := request.GetPageToken(); token != "" {
		parent, child, found := strings.Cut(token, "/")
		if !found {
			return nil, invalid("page_token", "isn't one that this participant has returned")
		}
		last = &journal.Row{ID: child, Parent: journal.Parent{Saga: parent}}
	}
	list := &commandList{keeper: k, scope: caller.Scope, size: max(int(request.GetPageSize()), 2), last: last}
	if request.GetSince() != nil {
		if err := list.add(ctx, journal.ChildrenParams{Since: request.GetSince().AsTime(), After: last}); err != nil {
			return nil, err
		}
		return &list.response, nil
	}
	var parents []string
	for _, name := range request.GetSagas() {
		if id, ok := wire.ParseSagaName(name); ok {
			parents = append(parents, id)
		}
	}
	slices.Sort(parents)
	for _, parent := range slices.Compact(parents) {
		if last != nil && parent < last.Parent.Saga {
			continue
		}
		if err := list.add(ctx, journal.ChildrenParams{Parent: parent, After: last}); err != nil {
			return nil, err
		}
		if list.response.GetNextPageToken() != "" {
			break
		}
	}
	return &list.response, nil
}

// commandList is a page of commands in the making.
type commandList struct {
	keeper   childKeeper
	scope    string
	size     int
	last     *journal.Row
	response treatyv1.ListCommandsResponse
}

// add adds the commands of children until the page is full. Then it sets the token of the next page.
func (l *commandList) add(ctx context.Context, params journal.ChildrenParams) error {
	params.Scope, params.Limit = l.scope, l.size
	rows, err := l.keeper.store.Children(ctx, params)
	if err != nil {
		return err
	}
	for _, row := range rows {
		// A child has two commands at most.
		if len(l.response.GetCommands()) > l.size-2 {
			l.more()
			return nil
		}
		l.last = row
		commands, err := l.keeper.engine.ChildCommands(ctx, row.ID)
		if errors.Is(err, journal.ErrNotFound) {
			continue // purged in the meantime
		}
		if err != nil {
			return err
		}
		l.response.Commands = append(l.response.Commands, commands...)
	}
	if len(rows) == params.Limit {
		l.more()
	}
	return nil
}

// more says that there are more commands, after those of the last child.
func (l *commandList) more() { l.response.NextPageToken = l.last.Parent.Saga + "/" + l.last.ID }

// CloseCommand returns what became of a command that starts a child. If nothing did, the child never starts.
func (k childKeeper) CloseCommand(
	ctx context.Context, caller incoming.Caller, request *treatyv1.CloseCommandRequest,
) (*treatyv1.CloseCommandResponse, error) {
	if _, _, ok := parseCommandID(request.GetCommandId()); !ok {
		return nil, invalid("command_id", "%q isn't a command id: want sagas/ID/steps/STEP",
			untrusted.Shorten(request.GetCommandId()))
	}
	leave, err := k.scopes.enter(ctx, caller)
	if err != nil {
		return nil, err
	}
	defer leave()
	d, served := k.definitions[request.GetMethod()]
	if !served {
		return &treatyv1.CloseCommandResponse{Outcome: &treatyv1.CloseCommandResponse_NotKept_{
			NotKept: &treatyv1.CloseCommandResponse_NotKept{},
		}}, nil
	}
	parent := &treatyv1.Parent{
		CommandId: request.GetCommandId(), Kind: d.Kind, Scope: caller.Scope, RequestDigest: request.GetRequestDigest(),
		SagaStart: request.GetSagaStart(),
	}
	params := childsaga.CloseParams(d.SagaDefinition, parent)
	about := subject{saga: params.SagaID, step: request.GetCommandId(), definition: d.Definition}
	closed, err := k.engine.CloseChild(context.WithoutCancel(ctx), params)
	if err != nil {
		return nil, about.of(forParent(err))
	}
	return closeResponse(closed), nil
}

func closeResponse(closed engine.Closed) *treatyv1.CloseCommandResponse {
	switch closed.Verdict {
	case engine.WasExecuted:
		return &treatyv1.CloseCommandResponse{Outcome: &treatyv1.CloseCommandResponse_Executed_{
			Executed: &treatyv1.CloseCommandResponse_Executed{Reply: closed.Reply},
		}}
	case engine.WasRefused:
		return &treatyv1.CloseCommandResponse{Outcome: &treatyv1.CloseCommandResponse_Refused_{
			Refused: &treatyv1.CloseCommandResponse_Refused{Failure: childsaga.Refusal(closed.Failure)},
		}}
	case engine.WasCompensated:
		return &treatyv1.CloseCommandResponse{Outcome: &treatyv1.CloseCommandResponse_Compensated_{
			Compensated: &treatyv1.CloseCommandResponse_Compensated{},
		}}
	case engine.ClosedNow:
		return &treatyv1.CloseCommandResponse{Outcome: &treatyv1.CloseCommandResponse_Closed_{
			Closed: &treatyv1.CloseCommandResponse_Closed{},
		}}
	default:
		return &treatyv1.CloseCommandResponse{Outcome: &treatyv1.CloseCommandResponse_Accepted_{
			Accepted: &treatyv1.CloseCommandResponse_Accepted{},
		}}
	}
}

// unknownMethod answers a call of a method that isn't served.
func unknownMethod(_ any, stream grpc.ServerStream) error {
	stream.SetTrailer(markOf(nil))
	method, _ := grpc.MethodFromServerStream(stream)
	return &apiError{
		code: codes.Unimplemented, reason: treatyv1.ErrorReason_ERROR_REASON_DEFINITION_NOT_FOUND,
		message: "this orchestrator doesn't serve the method " + untrusted.Shorten(method),
	}
}
