package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/treatyhq/treaty/client"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/services/demo/audit"
	"github.com/treatyhq/treaty/services/demo/company"
)

// sagaTime is how long one saga may take.
const sagaTime = time.Minute

// starts are the sagas that the demo started, for the audit.
type starts struct {
	list  []audit.Start
	given []audit.Effect
}

// heading prints the title of a story.
func (d *demo) heading(title string) {
	d.shown++
	d.out.title(fmt.Sprintf("%d  %s", d.shown, title))
}

// ended is the end of a call to a saga's own method.
type ended struct {
	definition, requestID string
	header                metadata.MD
	err                   error
}

// saga returns the saga's name, from the call's header.
func (e ended) saga() string { return client.SagaOf(e.header) }

// told returns the saga's final state according to the call, or UNSPECIFIED if the call doesn't say.
func (e ended) told() treatyv1.SagaState {
	switch {
	case e.err == nil:
		return treatyv1.SagaState_SAGA_STATE_SUCCEEDED
	case client.Compensated(e.err):
		return treatyv1.SagaState_SAGA_STATE_COMPENSATED
	default:
		return treatyv1.SagaState_SAGA_STATE_UNSPECIFIED
	}
}

// ended records the end of a call for the audit, and returns the saga that it started. It returns an error if the call
// doesn't say how the saga ended.
func (d *demo) ended(ctx context.Context, e ended) (*treatyv1.Saga, error) {
	if e.told() == treatyv1.SagaState_SAGA_STATE_UNSPECIFIED {
		return nil, fmt.Errorf("calling %s: %w", e.definition, e.err)
	}
	d.starts.list = append(d.starts.list, audit.Start{Definition: e.definition, RequestID: e.requestID, Saga: e.saga(),
		Told: e.told()})
	saga, err := treatyv1.NewSagaServiceClient(d.company.Conn(company.Orchestrator)).GetSaga(ctx,
		&treatyv1.GetSagaRequest{Name: e.saga()})
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", e.saga(), err)
	}
	return saga, nil
}

// waited waits for the end of a running saga, and records it for the audit.
func (d *demo) waited(ctx context.Context, definition, name, requestID string) (*treatyv1.Saga, error) {
	ctx, cancel := context.WithTimeout(ctx, sagaTime)
	defer cancel()
	saga, err := treatyv1.NewSagaServiceClient(d.company.Conn(company.Orchestrator)).WaitSaga(ctx,
		&treatyv1.WaitSagaRequest{Name: name})
	if err != nil {
		return nil, fmt.Errorf("waiting for %s: %w", name, err)
	}
	d.starts.list = append(d.starts.list, audit.Start{Definition: definition, RequestID: requestID, Saga: name,
		Told: saga.GetState()})
	return saga, nil
}

// follow prints the timeline of the saga that a call started, and checks its final state. It returns an error if the
// call doesn't say how the saga ended.
func (d *demo) follow(
	ctx context.Context, e ended, wanted treatyv1.SagaState, events ...event,
) (*treatyv1.Saga, error) {
	saga, err := d.ended(ctx, e)
	if err != nil {
		return nil, err
	}
	if err := d.show(ctx, saga, events...); err != nil {
		return nil, err
	}
	if saga.GetState() != wanted {
		d.fail("%s is %s, want %s", saga.GetName(), stateName(saga.GetState()), stateName(wanted))
	}
	return saga, nil
}

// show prints a saga's timeline.
func (d *demo) show(ctx context.Context, saga *treatyv1.Saga, events ...event) error {
	records, err := d.records(ctx, saga.GetName())
	if err != nil {
		return err
	}
	look := green
	if saga.GetState() != treatyv1.SagaState_SAGA_STATE_SUCCEEDED {
		look = magenta
	}
	took := " in " + short(saga.GetEndTime().AsTime().Sub(saga.GetCreateTime().AsTime()))
	if saga.GetEndTime() == nil {
		look, took = yellow, " for "+short(time.Since(saga.GetCreateTime().AsTime()))+" so far"
	}
	d.out.line(plain, "   "+d.out.styled(dim, saga.GetName())+"  "+d.out.styled(look,
		stateName(saga.GetState()))+d.out.styled(dim, took))
	d.out.timeline(saga, append(between(records), events...))
	return nil
}

// stateName returns a state as people write it, for example SUCCEEDED.
func stateName(state treatyv1.SagaState) string {
	return strings.TrimPrefix(state.String(), "SAGA_STATE_")
}

// held is what one service stores after a story, and whether that is correct.
type held struct {
	service, text string
	agrees        bool
}

// holds prints what the services store.
func (d *demo) holds(rows ...held) {
	d.out.line(dim, "    Result:")
	var cells [][]cell
	for _, row := range rows {
		mark := cell{"✓", green}
		if !row.agrees {
			mark = cell{"✗", red}
			d.fail("story %d: %s stores: %s", d.shown, row.service, row.text)
		}
		cells = append(cells, []cell{mark, {row.service, cyan}, {row.text, plain}})
	}
	d.out.table("    ", cells)
}

// check prints a fact, and fails the demo if it isn't true.
func (d *demo) check(so bool, text string) {
	if so {
		d.out.line(plain, "    "+d.out.styled(green, "✓")+"  "+text)
		return
	}
	d.out.line(plain, "    "+d.out.styled(red, "✗")+"  "+text)
	d.fail("story %d: not true: %s", d.shown, text)
}

func (d *demo) fail(format string, args ...any) {
	d.failed = append(d.failed, fmt.Sprintf(format, args...))
}

// orNothing returns the text, or the replacement if it is empty.
func orNothing(text, nothing string) string {
	if text == "" {
		return nothing
	}
	return text
}
