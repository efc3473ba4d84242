package cli

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/treatyhq/treaty/cmd/treaty/internal/connection"
	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	"github.com/treatyhq/treaty/cmd/treaty/internal/resource"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// redrawInterval is how often a terminal is drawn anew while nothing changes, so that the times in it are right.
const redrawInterval = time.Second

func (a *app) watchCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "watch NAME",
		Short: "Watch a saga until it has ended",
		Long: `Watch a saga until it has ended: drawn anew in a terminal after each change, one line for each change elsewhere, and the
saga after each change with --json. Goes on when the orchestrator is restarted.`,
		Args:              exact("NAME"),
		ValidArgsFunction: a.completeSaga(openSagas),
		RunE: a.run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			name, err := parseName(args[0])
			if err != nil {
				return err
			}
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			ctx, cancel := a.long(ctx)
			defer cancel()
			return a.watch(ctx, c, name)
		}),
	}
}

func (a *app) watch(ctx context.Context, c *connection.Client, name string) error {
	if a.flags.json {
		_, err := a.follow(ctx, c, name, follower{seen: func(saga *treatyv1.Saga) { a.printJSON(c, saga) }, lost: a.lostOnStderr})
		return err
	}
	if _, terminal := a.terminal(); terminal {
		s := &sketch{app: a, client: c}
		stop := s.keepFresh()
		_, err := a.follow(ctx, c, name, follower{seen: s.draw, lost: s.lost})
		stop()
		return err
	}
	v := a.view(c, render.SagaPayloads)
	var before *treatyv1.Saga
	_, err := a.follow(ctx, c, name, follower{lost: a.lostOnStderr, seen: func(saga *treatyv1.Saga) {
		a.print(v.Changes(before, saga))
		before = saga
	}})
	return err
}

// sketch is a saga that is drawn over and over at the same place of a terminal. Its methods may be called concurrently.
type sketch struct {
	app    *app
	client *connection.Client

	mu     sync.Mutex
	last   *treatyv1.Saga
	away   bool
	frames render.Frames
}

// keepFresh draws anew from time to time until the returned function is called.
func (s *sketch) keepFresh() (stop func()) {
	_, _ = fmt.Fprint(s.app.Stdout, render.HideCursor)
	ticker := time.NewTicker(redrawInterval)
	quit, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		for {
			select {
			case <-ticker.C:
				s.redraw()
			case <-quit:
				return
			}
		}
	}()
	return func() {
		ticker.Stop()
		close(quit)
		<-gone
		_, _ = fmt.Fprint(s.app.Stdout, render.ShowCursor)
	}
}

// draw draws the saga as it is now.
func (s *sketch) draw(saga *treatyv1.Saga) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last, s.away = saga, false
	s.paint()
}

// lost draws that the connection is lost, so that what stands there isn't taken for the present.
func (s *sketch) lost() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = true
	s.paint()
}

func (s *sketch) redraw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last != nil && !resource.IsFinal(s.last.GetState()) {
		s.paint()
	}
}

// paint draws the next frame.
func (s *sketch) paint() {
	notice := ""
	if s.away {
		notice = s.app.lostConnection()
	}
	_, _ = io.WriteString(s.app.Stdout, s.frames.Next(s.app.view(s.client, render.ReplyOnly), s.last, notice))
}
