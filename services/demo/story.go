package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/services/demo/audit"
	"github.com/treatyhq/treaty/services/demo/company"
)

// sagaTime is how long one saga may take here.
const sagaTime = time.Minute

// starts are the sagas that the demo was told of, for the audit.
type starts struct {
	list  []audit.Start
	given []audit.Effect
}

// heading begins a story.
func (d *demo) heading(title string) {
	d.shown++
	d.out.title(fmt.Sprintf("%d  %s", d.shown, title))
}

// ended is how a call to a saga's own method ended.
type ended struct {
	definition, requestID string
	header                metadata.MD
	err                   error
}

// saga is the saga's name, which came in the call's header.
func (e ended) saga() string { return strings.Join(e.header.Get("treaty-saga"), "") }

// told is the state that the caller was told.
func (e ended) told() treatyv1.SagaState {
	if e.err == nil {
		return treatyv1.SagaState_SAGA_STATE_SUCCEEDED
	}
	for _, detail := range status.Convert(e.err).Details() {
		info, ok := detail.(*errdetails.ErrorInfo)
		if ok && info.GetDomain() == "treaty" && (info.GetReason() == "SAGA_COMPENSATED" ||
			info.GetReason() == "SAGA_CANCELLED") {
			return treatyv1.SagaState_SAGA_STATE_COMPENSATED
		}
	}
	return treatyv1.SagaState_SAGA_STATE_UNSPECIFIED
}

// ended remembers for the audit how a call ended, and returns the saga that it started. The error says that the call
// told nothing of its end.
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

// waited waits for the end of a saga that was begun, and remembers it for the audit.
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

// follow prints the timeline of the saga that a call started, and checks that the saga ended as wanted. The error says
// that the call told nothing of its end.
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
		d.fail("%s is %s, and should be %s", saga.GetName(), stateName(saga.GetState()), stateName(wanted))
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

// stateName is a state as people write it, e.g. SUCCEEDED.
func stateName(state treatyv1.SagaState) string {
	return strings.TrimPrefix(state.String(), "SAGA_STATE_")
}

// held is what one service holds in the end, and whether that is what it should.
type held struct {
	service, text string
	agrees        bool
}

// holds prints what the services hold.
func (d *demo) holds(rows ...held) {
	d.out.line(dim, "    In the end:")
	var cells [][]cell
	for _, row := range rows {
		mark := cell{"✓", green}
		if !row.agrees {
			mark = cell{"✗", red}
			d.fail("story %d: %s holds: %s", d.shown, row.service, row.text)
		}
		cells = append(cells, []cell{mark, {row.service, cyan}, {row.text, plain}})
	}
	d.out.table("    ", cells)
}

// check prints a fact that must be so.
func (d *demo) check(so bool, text string) {
	if so {
		d.out.line(plain, "    "+d.out.styled(green, "✓")+"  "+text)
		return
	}
	d.out.line(plain, "    "+d.out.styled(red, "✗")+"  "+text)
	d.fail("story %d: not so: %s", d.shown, text)
}

func (d *demo) fail(format string, args ...any) {
	d.failed = append(d.failed, fmt.Sprintf(format, args...))
}

// orNothing is the text, or that there is nothing.
func orNothing(text, nothing string) string {
	if text == "" {
		return nothing
	}
	return text
}
