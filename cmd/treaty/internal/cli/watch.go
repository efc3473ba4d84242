package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/treatyhq/treaty/cmd/treaty/internal/resource"
	"github.com/treatyhq/treaty/cmd/treaty/internal/schema"
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

func (a *app) watch(ctx context.Context, c *client, name string) error {
	if a.flags.json {
		_, err := a.follow(ctx, c, name, follower{seen: func(saga *treatyv1.Saga) { a.printJSON(c, saga) }, lost: a.lostOnStderr})
		return err
	}
	if a.printer().terminal {
		s := &sketch{app: a, client: c}
		stop := s.keepFresh()
		_, err := a.follow(ctx, c, name, follower{seen: s.draw, lost: s.lost})
		stop()
		return err
	}
	p := a.printer()
	var before *treatyv1.Saga
	_, err := a.follow(ctx, c, name, follower{lost: a.lostOnStderr, seen: func(saga *treatyv1.Saga) {
		p.print(changes(schema.NewEncoder(c.schema), before, saga)...)
		before = saga
	}})
	return err
}

// sketch is a saga that is drawn over and over at the same place of a terminal. Its methods may be called concurrently.
type sketch struct {
	app    *app
	client *client

	mu     sync.Mutex
	last   *treatyv1.Saga
	away   bool
	height int
}

// keepFresh draws anew from time to time until the returned function is called.
func (s *sketch) keepFresh() (stop func()) {
	_, _ = fmt.Fprint(s.app.Stdout, hideCursor)
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
		_, _ = fmt.Fprint(s.app.Stdout, showCursor)
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

// paint replaces what was drawn before. What doesn't fit on the screen is cut off, so that the cursor finds its way back; a
// saga that has ended is drawn whole.
func (s *sketch) paint() {
	v := s.app.view(s.client)
	v.detail = replyOnly
	lines := v.saga(s.last)
	if s.away {
		lines = append([]line{text(yellow, "The connection to %s was lost; trying again.", s.app.flags.address)}, lines...)
	}
	if room := v.printer.screen.Height - 1; !resource.IsFinal(s.last.GetState()) {
		for i := range lines {
			lines[i] = lines[i].cut(v.printer.screen.Width)
		}
		if len(lines) > room && room > 1 {
			hidden := len(lines) - room + 1
			lines = append(lines[:room-1:room-1], text(dim, "… %d more lines: treaty sagas get %s", hidden, s.last.GetName()).cut(v.printer.screen.Width))
		}
	}
	back := ""
	if s.height > 0 {
		back = fmt.Sprintf("\x1b[%dA\r%s", s.height, clearBelow)
	}
	_, _ = fmt.Fprint(s.app.Stdout, back+v.printer.render(lines))
	s.height = len(lines)
}

// changes returns a line for each thing that changed from one state of a saga to another: time, what, and how. Without a
// state before, everything is new.
func changes(payloads *schema.Encoder, before, now *treatyv1.Saga) []line {
	m := moments{}
	known := map[string]*treatyv1.Step{}
	for _, step := range before.GetSteps() {
		known[step.GetName()] = step
	}
	var out []line
	add := func(at *timestamppb.Timestamp, what, state, more string) {
		l := line{{m.exact(at), plain}, {"  " + what + "  " + state, plain}}
		if more != "" {
			l = append(l, span{"  " + more, plain})
		}
		out = append(out, l)
	}
	final := resource.IsFinal(now.GetState())
	if before.GetState() != now.GetState() && !final {
		more := now.GetDefinition()
		switch {
		case now.GetSuspension() != nil:
			more = suspensionText(now.GetSuspension().GetReason()) + ": " + now.GetSuspension().GetMessage()
		case now.GetFailure() != nil:
			more = failureText(now.GetFailure())
		}
		at := now.GetUpdateTime()
		if before == nil && now.GetState() == treatyv1.SagaState_SAGA_STATE_RUNNING {
			at = now.GetCreateTime()
		}
		add(at, now.GetName(), resource.StateName(now.GetState()), more)
	}
	for _, step := range now.GetSteps() {
		if old := known[step.GetName()]; old != nil && old.GetState() == step.GetState() {
			continue
		}
		at, method, more := stepChange(step)
		add(at, step.GetName(), resource.StepStateName(step.GetState()), joinNonEmpty(method, more))
	}
	codeChanges(payloads, before, now, add)
	if before.GetState() != now.GetState() && final {
		more := formatDuration(now.GetEndTime().AsTime().Sub(now.GetCreateTime().AsTime()))
		if now.GetFailure() != nil {
			more += "  " + failureText(now.GetFailure())
		}
		add(now.GetEndTime(), now.GetName(), resource.StateName(now.GetState()), more)
	}
	return out
}

// codeChanges adds what changed beside the steps: how far the code says it has come, its scopes, and what it waits for.
func codeChanges(payloads *schema.Encoder, before, now *treatyv1.Saga, add func(at *timestamppb.Timestamp, what, state, more string)) {
	if round := now.GetRound(); before != nil && round > before.GetRound() && round > 1 {
		add(now.GetUpdateTime(), now.GetName(), "round "+strconv.Itoa(int(round)), "")
	}
	if progress := now.GetProgress(); progress != nil && !proto.Equal(progress, before.GetProgress()) {
		shown, ok := payloads.EncodeAny(progress)
		if !ok {
			shown = json.RawMessage(schema.TypeName(progress.GetTypeUrl()))
		}
		add(now.GetUpdateTime(), now.GetName(), "progress", string(shown))
	}
	for _, scope := range now.GetScopes() {
		if !slices.ContainsFunc(before.GetScopes(), func(old *treatyv1.Scope) bool { return old.GetScope() == scope.GetScope() }) {
			why := scopeCauseText(scope.GetCause())
			if scope.GetFailure() != nil {
				why = failureText(scope.GetFailure())
			}
			add(scope.GetDecideTime(), now.GetName(), "scope "+scope.GetScope()+" is undone", why)
		}
	}
	for _, wait := range now.GetWaits() {
		if !slices.ContainsFunc(before.GetWaits(), func(old *treatyv1.Wait) bool { return old.GetWait() == wait.GetWait() }) {
			add(wait.GetScheduleTime(), now.GetName(), "waits", moments{}.waiting(wait))
		}
	}
}

// stepChange returns when a step came to its state, the method that brought it there, and what else there is to say.
func stepChange(step *treatyv1.Step) (at *timestamppb.Timestamp, method, more string) {
	m := moments{}
	switch step.GetState() {
	case treatyv1.StepState_STEP_STATE_DONE:
		return step.GetEndTime(), step.GetMethod(), m.between(step.GetScheduleTime(), step.GetEndTime())
	case treatyv1.StepState_STEP_STATE_REFUSED, treatyv1.StepState_STEP_STATE_UNKNOWN:
		return step.GetEndTime(), step.GetMethod(), failureText(step.GetFailure())
	case treatyv1.StepState_STEP_STATE_COMPENSATING:
		return step.GetCompensationScheduleTime(), step.GetCompensationMethod(), ""
	case treatyv1.StepState_STEP_STATE_COMPENSATED:
		return step.GetCompensationEndTime(), step.GetCompensationMethod(), m.between(step.GetCompensationScheduleTime(), step.GetCompensationEndTime())
	default:
		return step.GetScheduleTime(), step.GetMethod(), ""
	}
}

func joinNonEmpty(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "  " + b
}
