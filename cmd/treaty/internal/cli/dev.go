package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/treatyhq/treaty/cmd/treaty/internal/dev"
	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

const (
	// devFile is the file that dev reads by default.
	devFile = "treaty.dev.yaml"

	// devPoll is how often the sagas that have ended are listed.
	devPoll = 500 * time.Millisecond

	// devOverlap is how long before the last one that was seen an ended saga may turn up.
	devOverlap = 2 * time.Second

	// devStuck is how long a saga stays unchanged before it is said what keeps it.
	devStuck = 3 * time.Second

	// maxTimelines and maxEnds bound what is printed of the sagas that have ended since the last poll: up to
	// maxTimelines whole timelines, up to maxEnds a line for each, and a count for more.
	maxTimelines, maxEnds = 3, 20
)

func (a *app) devCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "dev [FILE]",
		Short: "Run all processes on this machine, and restart what changed",
		Long: `Run the processes that FILE lists, by default treaty.dev.yaml, until q or Ctrl-C. Restart a process
when one of its files changes or when it ends by itself. Print the timeline of each saga that ends.

  orchestrator: 127.0.0.1:7080        # its API; for the timelines
  processes:
    - name: customer
      command: bin/customer --db c.db # a text is split at spaces; with quotes or a shell, write a list
      build: go build -o bin/ ./cmd   # before each start; while it fails, the old process goes on
      dir: .                          # where both run; default: the file's folder
      env: {LEVEL: debug}
      watch: [customer]               # default: each ./folder in build and command
      ready: 127.0.0.1:7101           # accepts connections when it's up
      stores: [c.db]                  # what a wipe deletes

A process has a name and a command; all else can be left out. Paths are relative to the file's folder.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return exact("FILE")(cmd, args)
			}
			return nil
		},
		RunE: a.run(func(ctx context.Context, cmd *cobra.Command, args []string) error {
			file := devFile
			if len(args) == 1 {
				file = args[0]
			}
			config, err := dev.Read(file)
			if err != nil {
				hint := "See treaty dev --help for the file's keys."
				if errors.Is(err, fs.ErrNotExist) {
					hint = "Write that file, or name another: treaty dev FILE. treaty dev --help shows an example."
				}
				return &problem.Error{Exit: problem.ExitUsage, Message: err.Error(), Hints: []string{hint}}
			}
			screen, terminal := a.terminal()
			params := dev.Params{
				Config: config, Stdin: a.Stdin, Stdout: a.Stdout,
				Color: terminal && !a.flags.noColor && a.Getenv("NO_COLOR") == "",
			}
			if config.Orchestrator != "" {
				if !cmd.Flags().Changed("address") {
					a.flags.connection.Address = config.Orchestrator
				}
				if err := a.connect(ctx); err != nil {
					return err
				}
				a.progress.say("") // its processes say what they do
				params.Beside = a.timelines
			}
			if terminal {
				if restore, ok := a.Raw(); ok {
					defer restore()
					params.Keys, params.Columns = true, screen.Width
				}
			}
			if err := dev.Run(ctx, params); err != nil {
				return &problem.Error{Exit: problem.ExitFailure, Message: err.Error()}
			}
			return nil
		}),
	}
}

// timelines prints the sagas that end until ctx does, and says what keeps those that don't.
func (a *app) timelines(ctx context.Context, out *dev.Output) {
	ends := newEnds(a, out)
	ticker := time.NewTicker(devPoll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			ends.poll(ctx)
			ends.obstacles(ctx)
		}
	}
}

// ends are the sagas that have ended.
type ends struct {
	app   *app
	out   *dev.Output
	since time.Time            // ends before this were printed
	seen  map[string]time.Time // the sagas that were printed since then, by name and state
	stuck map[string]bool      // the obstacles that were said
}

func newEnds(a *app, out *dev.Output) *ends {
	return &ends{
		app: a, out: out, since: a.Now(), seen: make(map[string]time.Time), stuck: make(map[string]bool),
	}
}

// poll prints the sagas that have ended or were suspended since the last time. While the orchestrator doesn't answer,
// it prints nothing: its process says what is wrong.
func (e *ends) poll(ctx context.Context) {
	found, err := e.list(ctx, []string{"succeeded", "compensated", "suspended"}, ">=", e.since.Add(-devOverlap))
	if err != nil {
		return
	}
	var fresh []*treatyv1.Saga
	first, start := len(e.seen) == 0, e.since
	for _, saga := range found {
		key, at := saga.GetName()+" "+saga.GetState().String(), saga.GetUpdateTime().AsTime()
		if _, known := e.seen[key]; !known && (!first || !at.Before(start)) {
			fresh = append(fresh, saga)
		}
		e.seen[key] = at
		if at.After(e.since) {
			e.since = at
		}
	}
	if len(found) == maxPageSize {
		e.since = e.since.Add(devOverlap) // or the next page would be this one
	}
	for key, at := range e.seen {
		if at.Before(e.since.Add(-2 * devOverlap)) {
			delete(e.seen, key)
		}
	}
	view := e.app.view(render.SagaPayloads)
	for i, saga := range fresh {
		switch {
		case len(fresh) <= maxTimelines:
			if whole, err := e.app.getSaga(ctx, saga.GetName()); err == nil {
				e.out.Text(view.Saga(whole))
			}
		case i < maxEnds:
			e.out.Text(view.Standing(saga))
		case i == maxEnds:
			e.out.Say("and %s more", sagas(len(fresh)-i))
		}
	}
}

// obstacles says once what keeps sagas that haven't changed for a while, such as a participant that isn't running.
func (e *ends) obstacles(ctx context.Context) {
	quiet, err := e.list(ctx, []string{"running", "compensating"}, "<", e.app.Now().Add(-devStuck))
	if err != nil {
		return
	}
	now := make(map[string]bool)
	for _, saga := range quiet[:min(len(quiet), maxTimelines)] {
		whole, err := e.app.getSaga(ctx, saga.GetName())
		if err != nil {
			return
		}
		for _, obstacle := range render.Obstacles(whole) {
			if now[obstacle.Key] = true; !e.stuck[obstacle.Key] {
				e.out.Say("%s", obstacle.Text)
			}
		}
	}
	e.stuck = now
}

// list returns sagas in some states that changed before or after a time, in the order of their changes.
func (e *ends) list(
	ctx context.Context, states []string, compare string, at time.Time,
) ([]*treatyv1.Saga, error) {
	flags := listFlags{
		states: states, filter: fmt.Sprintf("update_time %s %q", compare, at.UTC().Format(time.RFC3339Nano)),
	}
	filter, err := flags.expression()
	if err != nil {
		return nil, err
	}
	page, err := e.app.listPage(ctx, &treatyv1.ListSagasRequest{
		PageSize: maxPageSize, Filter: filter, OrderBy: "update_time",
	})
	return page.GetSagas(), err
}
