package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// bulkPage is the number of sagas that are listed at a time.
const bulkPage = 200

// bulkFlags are the flags of a decision that can be made about many sagas.
type bulkFlags struct {
	filter string
	dryRun bool
	yes    bool
}

func (f *bulkFlags) register(set *pflag.FlagSet, verb, which string) {
	set.StringVar(&f.filter, "filter", "",
		verb+" all "+which+" sagas that this AIP-160 `FILTER` selects, as for treaty sagas list")
	set.BoolVar(&f.dryRun, "dry-run", false, "with --filter, only list the sagas")
	set.BoolVar(&f.yes, "yes", false, "with --filter, "+verb+" the sagas; without it, only count them")
}

// checkOne checks the flags of a decision about one saga.
func (f *bulkFlags) checkOne() error {
	switch {
	case f.dryRun:
		return problem.Usage("--dry-run is for --filter")
	case f.yes:
		return problem.Usage("--yes is for --filter")
	default:
		return nil
	}
}

// bulk is one decision about many sagas.
type bulk struct {
	bulkFlags

	app    *app
	states string // the filter for the sagas that the decision fits
	verb   string // "resume"
	past   string // "resumed"
	doing  string // "resuming"

	// decide makes the decision about one saga, as it was when it was selected.
	decide func(ctx context.Context, seen *treatyv1.Saga) (*treatyv1.Saga, error)

	// report prints the outcome of a decision. By default, it prints the saga's state.
	report func(saga *treatyv1.Saga)

	view         *render.View
	done, failed int
}

// run makes the decision about all sagas that the filter selects, the oldest first, and prints the outcome of each. The
// sagas are those that were selected before the first decision. Without --yes, it only counts them.
func (b *bulk) run(ctx context.Context) error {
	if err := b.app.connect(ctx); err != nil {
		return err
	}
	b.view = b.app.view(render.SagaPayloads)
	selected, err := b.selected(ctx)
	switch {
	case err != nil:
		return b.app.explain(err, problem.Subject{Doing: "listing sagas"})
	case b.dryRun:
		b.list(selected)
		return nil
	case !b.yes && len(selected) > 0:
		return problem.Usage(
			fmt.Sprintf("%s would be %s; nothing was done, because --yes is missing", sagas(len(selected)), b.past),
			"To list them, use --dry-run. To "+b.verb+" them, add --yes.")
	}
	for i, saga := range selected {
		b.app.progress.say("%s %s, %d failed", b.doing, ofSagas(i, len(selected)), b.failed)
		if err := b.decideOne(ctx, saga); err != nil {
			return err
		}
	}
	return b.result()
}

// selected returns the sagas that the filter selects. In the order of their starts, no saga is missed that changes
// while pages are read.
func (b *bulk) selected(ctx context.Context) ([]*treatyv1.Saga, error) {
	var selected []*treatyv1.Saga
	request := &treatyv1.ListSagasRequest{
		PageSize: bulkPage, OrderBy: "create_time", Filter: b.states + " AND " + group(b.filter, true),
	}
	for {
		page, err := b.app.listPage(ctx, request)
		if err != nil {
			return nil, err
		}
		selected = append(selected, page.GetSagas()...)
		b.app.progress.say("listing the sagas, %d so far", len(selected))
		if request.PageToken = page.GetNextPageToken(); request.GetPageToken() == "" {
			return selected, nil
		}
	}
}

// list lists the sagas in a dry run.
func (b *bulk) list(selected []*treatyv1.Saga) {
	if b.app.flags.json {
		for _, saga := range selected {
			b.app.printJSON(saga)
		}
	} else {
		b.app.print(b.view.Sagas(selected))
	}
	_, _ = fmt.Fprintf(b.app.Stderr, "%s would be %s.\n", sagas(len(selected)), b.past)
}

// decideOne makes the decision about one saga and prints the outcome. It returns an error only if the others needn't be
// tried.
func (b *bulk) decideOne(ctx context.Context, selected *treatyv1.Saga) error {
	call, cancel := b.app.unary(ctx)
	defer cancel()
	saga, err := b.decide(call, selected)
	switch {
	case ctx.Err() != nil:
		return b.app.explain(ctx.Err(), problem.Subject{})
	case err != nil:
		b.failed++
		b.printFailure(selected.GetName(), b.app.explain(err, problem.Subject{}))
	default:
		b.done++
		if b.report != nil {
			b.report(saga)
			return nil
		}
		b.app.printStanding(saga)
	}
	return nil
}

// printFailure prints why the decision about a saga failed, in the place of its new state.
func (b *bulk) printFailure(name string, err error) {
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

// failedSagaJSON is a saga about which a decision failed, in the output of --json.
type failedSagaJSON struct {
	Name  string      `json:"name"`
	Error problemJSON `json:"error"`
}

// result says how many sagas there were. It returns an error if any failed.
func (b *bulk) result() error {
	if b.failed > 0 {
		return &problem.Error{
			Exit:    problem.ExitFailure,
			Message: fmt.Sprintf("%d of %s couldn't be %s", b.failed, sagas(b.done+b.failed), b.past),
			Hints:   []string{"To show the possible decisions for one of them, run treaty sagas get NAME."},
		}
	}
	_, _ = fmt.Fprintf(b.app.Stderr, "%s %s.\n", sagas(b.done), b.past)
	return nil
}

// ofSagas says how many sagas of all are done.
func ofSagas(done, all int) string { return fmt.Sprintf("%d of %s", done, sagas(all)) }

func sagas(count int) string {
	if count == 1 {
		return "1 saga"
	}
	return fmt.Sprintf("%d sagas", count)
}
