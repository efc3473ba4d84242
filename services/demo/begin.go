package main

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/services/demo/company"
)

// identified is a request that starts a saga.
type identified interface {
	proto.Message
	GetRequestId() string
}

// begin starts a saga, doesn't wait for its end, and returns its name.
func (d *demo) begin(ctx context.Context, definition string, request identified) (name string, err error) {
	packed, err := anypb.New(request)
	if err != nil {
		return "", fmt.Errorf("starting %s: %w", definition, err)
	}
	saga, err := treatyv1.NewSagaServiceClient(d.company.Conn(company.Orchestrator)).CreateSaga(ctx,
		&treatyv1.CreateSagaRequest{Definition: definition, Request: packed})
	if err != nil {
		return "", fmt.Errorf("starting %s: %w", definition, err)
	}
	return saga.GetName(), nil
}

// call calls a saga's own method, which returns at its end. If the saga is running already, the call attaches to it.
func (d *demo) call(ctx context.Context, definition string, request identified, reply proto.Message) ended {
	ctx, cancel := context.WithTimeout(ctx, sagaTime)
	defer cancel()
	e := ended{definition: definition, requestID: request.GetRequestId()}
	e.err = d.company.Conn(company.Orchestrator).Invoke(ctx, "/"+definition, request, reply, grpc.Header(&e.header),
		grpc.WaitForReady(true))
	return e
}

// watch passes a saga to seen whenever it changes, until seen has seen enough or the saga has ended.
func (d *demo) watch(ctx context.Context, name string, seen func(*treatyv1.Saga) (enough bool)) error {
	ctx, cancel := context.WithTimeout(ctx, sagaTime)
	defer cancel()
	stream, err := treatyv1.NewSagaServiceClient(d.company.Conn(company.Orchestrator)).WatchSaga(ctx,
		&treatyv1.WatchSagaRequest{Name: name})
	for err == nil {
		var now *treatyv1.WatchSagaResponse
		if now, err = stream.Recv(); err == nil && (seen(now.GetSaga()) || now.GetSaga().GetEndTime() != nil) {
			return nil
		}
	}
	return fmt.Errorf("watching %s: %w", name, err)
}

// children returns the child sagas of a saga, oldest first.
func (d *demo) children(ctx context.Context, parent, definition string) (found []*treatyv1.Saga, err error) {
	client := treatyv1.NewSagaServiceClient(d.company.Conn(company.Orchestrator))
	listed, err := client.ListSagas(ctx, &treatyv1.ListSagasRequest{PageSize: 1000, OrderBy: "create_time",
		Filter: `definition = "` + definition + `"`})
	if err != nil {
		return nil, fmt.Errorf("listing the children of %s: %w", parent, err)
	}
	for _, one := range listed.GetSagas() {
		saga, err := client.GetSaga(ctx, &treatyv1.GetSagaRequest{Name: one.GetName()})
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", one.GetName(), err)
		}
		if strings.HasPrefix(saga.GetParentStep(), parent+"/") {
			found = append(found, saga)
		}
	}
	return found, nil
}

// showChild shows one of a saga's children, and checks that all of them ended in the same state.
func (d *demo) showChild(ctx context.Context, parent, definition string, wanted treatyv1.SagaState) error {
	children, err := d.children(ctx, parent, definition)
	if err != nil {
		return err
	}
	if len(children) == 0 {
		d.fail("story %d: %s has no children", d.shown, parent)
		return nil
	}
	for _, child := range children {
		if child.GetState() != wanted {
			d.fail("%s is %s, want %s", child.GetName(), child.GetState(), wanted)
		}
	}
	about := ""
	if wanted == treatyv1.SagaState_SAGA_STATE_COMPENSATED {
		about = "; it had succeeded and was compensated as a whole"
	}
	d.out.line(dim, fmt.Sprintf("    Step %s is itself a saga, one of %d%s:",
		wire.StepPath(children[0].GetParentStep()), len(children), about))
	return d.show(ctx, children[0])
}
