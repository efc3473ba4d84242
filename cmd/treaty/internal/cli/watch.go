package cli

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	"github.com/treatyhq/treaty/cmd/treaty/internal/resource"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// redrawInterval is how often a terminal is redrawn while nothing changes, to update the times.
const redrawInterval = time.Second

func (a *app) watchCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "watch NAME",
		Short: "Watch a saga until it has ended",
		Long: `Watch a saga until it has ended. In a terminal, redraw the saga after each change. Elsewhere, print one
line for each change. With --json, print the whole saga after each change. The watch survives a restart
of the orchestrator. If a participant is down, not configured or keeps failing, print a message on stderr.`,
		Args:              exact("NAME"),
		ValidArgsFunction: a.completeSaga(openSagas),
		RunE: a.run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			name, err := parseName(args[0])
			if err != nil {
				return err
			}
			if err := a.connect(ctx); err != nil {
				return err
			}
			ctx, cancel := a.long(ctx)
			defer cancel()
			return a.watch(ctx, name)
		}),
	}
}

func (a *app) watch(ctx context.Context, name string) error {
	stuck := &obstacles{app: a}
	if a.flags.json {
		f := follower{lost: a.lostOnStderr, tried: stuck.tried}
		f.seen = func(saga *treatyv1.Saga) {
			a.printJSON(saga)
			stuck.seen(saga)
		}
		_, err := a.follow(ctx, name, f)
		return err
	}
	if _, terminal := a.terminal(); terminal {
		d := &drawing{app: a}
		stop := d.keepFresh()
		_, err := a.follow(ctx, name, follower{lost: d.lost, tried: d.draw, seen: d.draw})
		stop()
		return err
	}
	v := a.view(render.SagaPayloads)
	var before *treatyv1.Saga
	_, err := a.follow(ctx, name, follower{lost: a.lostOnStderr, tried: stuck.tried, seen: func(saga *treatyv1.Saga) {
		a.print(v.Changes(before, saga))
		stuck.seen(saga)
		before = saga
	}})
	return err
}

// drawing is a saga that is redrawn at the same place of a terminal. Its methods may be called concurrently.
type drawing struct {
	app *app

	mu           sync.Mutex
	last         *treatyv1.Saga
	disconnected bool
	frames       render.Frames
}

// keepFresh redraws at an interval until the returned function is called.
func (d *drawing) keepFresh() (stop func()) {
	ticker := time.NewTicker(redrawInterval)
	quit, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		for {
			select {
			case <-ticker.C:
				d.redraw()
			case <-quit:
				return
			}
		}
	}()
	return func() {
		ticker.Stop()
		close(quit)
		<-gone
		_, _ = io.WriteString(d.app.Stdout, render.ShowCursor)
	}
}

// draw draws a new version of the saga.
func (d *drawing) draw(saga *treatyv1.Saga) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.app.progress.say("") // the drawing shows it
	if d.last == nil {
		_, _ = io.WriteString(d.app.Stdout, render.HideCursor)
	}
	d.last, d.disconnected = saga, false
	d.paint()
}

// lost draws that the connection is lost, so the saga on the screen may be out of date.
func (d *drawing) lost() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.disconnected = true
	d.paint()
}

func (d *drawing) redraw() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last != nil && !resource.IsFinal(d.last.GetState()) {
		d.paint()
	}
}

func (d *drawing) paint() {
	notice := ""
	if d.disconnected {
		notice = d.app.lostConnection()
	}
	d.app.print(d.frames.Next(d.app.view(render.ReplyOnly), d.last, notice))
}
