package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// resumePage is the number of sagas that are listed at a time.
const resumePage = 200

// resumeAll resumes all suspended sagas that a filter selects. Oldest first: a saga that is suspended again, or
// resumed, doesn't change which sagas come after it.
func (a *app) resumeAll(ctx context.Context, flags resumeFlags) error {
	bulk, err := a.newBulkResume(ctx, flags)
	if err != nil {
		return err
	}
	if err := a.connect(ctx); err != nil {
		return err
	}
	bulk.view = a.view(render.SagaPayloads)
	request := &treatyv1.ListSagasRequest{
		PageSize: resumePage, OrderBy: "create_time", Filter: `state = "SUSPENDED" AND ` + group(flags.filter, true),
	}
	for {
		page, err := a.listPage(ctx, request)
		if err != nil {
			return a.explain(err, problem.Subject{Doing: "listing sagas"})
		}
		for _, saga := range page.GetSagas() {
			if err := bulk.resume(ctx, saga); err != nil {
				return err
			}
		}
		request.PageToken = page.GetNextPageToken()
		if request.GetPageToken() == "" {
			return bulk.result()
		}
	}
}

// bulkResume is one decision about many sagas.
type bulkResume struct {
	app             *app
	dryRun          bool
	request         *treatyv1.ResumeSagaRequest // without a name
	view            *render.View
	listed          []*treatyv1.Saga // in a dry run
	resumed, failed int
}

// newBulkResume checks the flags and makes the decision.
func (a *app) newBulkResume(ctx context.Context, flags resumeFlags) (*bulkResume, error) {
	bulk := &bulkResume{app: a, dryRun: flags.dryRun, request: new(treatyv1.ResumeSagaRequest)}
	if flags.markDone != "" && flags.markDone != withoutReply {
		return nil, problem.Usage("--mark-done can't have a reply with --filter: each saga needs its own")
	}
	if flags.dryRun {
		return bulk, nil
	}
	var err error
	if bulk.request.Decision, err = a.decision(flags.reason); err != nil {
		return nil, err
	}
	return bulk, a.decideHow(ctx, bulk.request, flags)
}

// resume resumes one saga, or lists it in a dry run, and prints the outcome. It returns an error only if the others
// needn't be tried.
func (b *bulkResume) resume(ctx context.Context, saga *treatyv1.Saga) error {
	if b.dryRun {
		b.list(saga)
		return nil
	}
	b.request.Name = saga.GetName()
	call, cancel := b.app.unary(ctx)
	defer cancel()
	resumed, err := b.app.client.Sagas.ResumeSaga(call, b.request)
	switch {
	case ctx.Err() != nil:
		return b.app.explain(ctx.Err(), problem.Subject{})
	case err != nil:
		b.failed++
		b.printFailure(saga.GetName(), b.app.explain(err, problem.Subject{}))
	default:
		b.resumed++
		b.app.printStanding(resumed)
	}
	return nil
}

func (b *bulkResume) list(saga *treatyv1.Saga) {
	if b.app.flags.json {
		b.app.printJSON(saga)
	}
	b.listed = append(b.listed, saga)
}

// printFailure prints why a saga couldn't be resumed, in the place of its new state.
func (b *bulkResume) printFailure(name string, err error) {
	if !b.app.flags.json {
		b.app.print(b.view.Failed(name, err.Error()))
		return
	}
	out := failedSagaJSON{Name: name, Error: problemJSON{Message: err.Error()}}
	if known, ok := errors.AsType[*problem.Error](err); ok {
		out.Error = b.app.problemJSON(known)
	}
	writeJSON(b.app.Stdout, out)
}

// failedSagaJSON is a saga that couldn't be resumed, in the output of --json.
type failedSagaJSON struct {
	Name  string      `json:"name"`
	Error problemJSON `json:"error"`
}

// result says how many sagas there were. It returns an error if any failed.
func (b *bulkResume) result() error {
	switch {
	case b.dryRun:
		if !b.app.flags.json {
			b.app.print(b.view.Sagas(b.listed))
		}
		_, _ = fmt.Fprintf(b.app.Stderr, "%s would be resumed.\n", sagas(len(b.listed)))
		return nil
	case b.failed > 0:
		return &problem.Error{
			Exit:    problem.ExitFailure,
			Message: fmt.Sprintf("%d of %s couldn't be resumed", b.failed, sagas(b.resumed+b.failed)),
			Hints:   []string{"To show the possible decisions for one of them, run treaty sagas get NAME."},
		}
	default:
		_, _ = fmt.Fprintf(b.app.Stderr, "%s resumed.\n", sagas(b.resumed))
		return nil
	}
}

func sagas(count int) string {
	if count == 1 {
		return "1 saga"
	}
	return fmt.Sprintf("%d sagas", count)
}
