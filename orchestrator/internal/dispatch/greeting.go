package dispatch

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

const (
	// protocolVersion is the newest version of the protocol that this orchestrator speaks.
	protocolVersion = 1

	// describeTimeout limits one Describe. Commands wait for the first one of a participant for no longer.
	describeTimeout = 5 * time.Second

	// describeInterval is how often a participant is asked while its connection lasts, and so how old the horizon can
	// be that it knows.
	describeInterval = 30 * time.Minute

	// initialDescribeDelay and maxDescribeDelay bound the wait before a participant is asked again after a failure. The
	// wait doubles with each failure.
	initialDescribeDelay = time.Second
	maxDescribeDelay     = 30 * time.Second

	// absentAfter is how long a participant may be without its first connection until that is logged.
	absentAfter = 5 * time.Second
)

// greeting asks a participant on behalf of a scope, and tells it about the scope.
type greeting struct {
	*introduction

	self *Self

	told atomic.Bool // it was told the epoch, or has said that it doesn't want to know
}

// run asks the participant until ctx ends: on each connection, and now and then while it lasts.
func (g *greeting) run(ctx context.Context) {
	conn := g.participant.conn
	delay := initialDescribeDelay
	if !g.awaitFirst(ctx) {
		return
	}
	for awaitReady(ctx, conn) {
		problem := g.describe(ctx)
		if ctx.Err() != nil {
			return
		}
		if problem == nil {
			delay = initialDescribeDelay
			waitWhileReady(ctx, conn, describeInterval)
			continue
		}
		g.report(problem)
		if !sleepJittered(ctx, delay, g.rand) {
			return
		}
		delay = min(2*delay, maxDescribeDelay)
	}
}

// awaitFirst waits for the first connection. If that takes long, it logs that the participant is down, since no command
// is sent until then, and no breaker opens. It returns false when ctx ends or the connection is closed.
func (g *greeting) awaitFirst(ctx context.Context) bool {
	b := g.participant.breaker
	soon, cancel := context.WithTimeout(ctx, g.absentAfter)
	defer cancel()
	if awaitReady(soon, g.participant.conn) {
		return true
	}
	if ctx.Err() != nil || g.participant.conn.GetState() == connectivity.Shutdown {
		return false
	}
	if g.absent.Swap(true) {
		return awaitReady(ctx, g.participant.conn) // another scope's greeting logs it
	}
	about := append(b.about(), "cause", "there was no connection since the start")
	if why := b.why(); why != "" {
		about = append(about, "error", why)
	}
	g.logger.Warn("participant is down: its commands wait until it is there", about...)
	if !awaitReady(ctx, g.participant.conn) {
		return false
	}
	g.logger.Info("participant is there", b.about()...)
	return true
}

// greetingProblem is why a participant hasn't said what it is.
type greetingProblem struct {
	message string
	holds   bool // no command may be sent
}

// describe asks the participant once. It returns nil if it needn't be asked again soon.
func (g *greeting) describe(ctx context.Context) *greetingProblem {
	position, err := g.self.NextPosition(ctx, 0)
	if err != nil {
		return &greetingProblem{message: fmt.Sprintf("the store's position can't be raised: %v", err), holds: true}
	}
	request := &treatyv1.DescribeRequest{
		ProtocolVersion: protocolVersion, Build: g.self.Build, StoreId: g.self.StoreID, Position: position,
	}
	if horizon := g.horizon(ctx); !horizon.IsZero() {
		request.Horizon = timestamppb.New(horizon)
	}
	keys := g.self.probe()
	x := new(exchange)
	callCtx, cancel := context.WithTimeout(exchangeContext{ctx, x}, describeTimeout)
	defer cancel()
	response, err := treatyv1.NewParticipantServiceClient(g.participant.conn).Describe(
		metadata.AppendToOutgoingContext(callCtx, keys...), request, grpc.Trailer(&x.trailer))
	if ctx.Err() != nil {
		return nil
	}
	problem := g.conclude(ctx, x, response, err, keys)
	g.settle(problem)
	return problem
}

// horizon returns the horizon to tell, after it was stored that it is told.
func (g *greeting) horizon(ctx context.Context) time.Time {
	horizon := g.self.Horizon()
	if horizon.IsZero() || g.participant.memory == nil {
		return horizon
	}
	if err := g.participant.memory.SetHorizon(ctx, g.participant.services, horizon); err != nil {
		if ctx.Err() == nil { // else this process stops
			g.logger.Error("storing which horizon a participant is told failed; it isn't told one now",
				"participant", g.participant.name, "error", err)
		}
		return time.Time{}
	}
	return horizon
}

// probe returns metadata with every key that a command has, to find out which ones get through.
func (s *Self) probe() []string {
	const step = "describe"
	return []string{
		wire.SagaKey, wire.SagaName(step), wire.CommandIDKey, wire.StepName(step, "1"),
		wire.DirectionKey, wire.Action, wire.AttemptKey, "1",
		wire.EpochKey, strconv.FormatUint(s.Epoch, 10), wire.ScopeKey, s.Scope,
		wire.StartKey, "0", wire.RequestDigestKey, strings.Repeat("0", wire.DigestLength),
	}
}

// conclude takes note of the participant's answer.
func (g *greeting) conclude(
	ctx context.Context, x *exchange, response *treatyv1.DescribeResponse, err error, keys []string,
) *greetingProblem {
	p := g.participant
	mark := x.mark()
	if err != nil {
		st := status.Convert(err)
		asGRPC := x.answered.Load()
		switch {
		case asGRPC && mark != "":
			p.prove()
		case asGRPC && st.Code() == codes.Unimplemented:
			p.plain()
			g.setTold(nil)
			return nil
		}
		if reason, more := reasonOf(st); asGRPC && (mark != "" || p.isPlain()) &&
			reason == treatyv1.ErrorReason_ERROR_REASON_STALE_EPOCH && isLater(more[wire.ErrorEpoch], g.self.Epoch) {
			g.self.Replaced(fmt.Sprintf("the participant %s knows a later epoch: %s", p.name, st.Message()),
				laterEpoch(more))
		}
		if mark == wire.AnswerAttempt && st.Code() == codes.Unimplemented {
			g.setTold(nil) // a library that marks its answers but doesn't describe itself
			return nil
		}
		return &greetingProblem{message: fmt.Sprintf("it doesn't describe itself: %v", err)}
	}
	for _, service := range p.services {
		if !slices.Contains(response.GetServices(), service) {
			return &greetingProblem{message: fmt.Sprintf("whoever answers at %s isn't the participant: it serves %s, "+
				"but not %s",
				p.target, strings.Join(response.GetServices(), ", "), service)}
		}
	}
	if slices.Contains(response.GetFeatures(), treatyv1.ParticipantFeature_PARTICIPANT_FEATURE_ANSWER_MARKS) {
		p.prove()
	}
	if problem := g.checkHeard(ctx, response.GetHeard()); problem != nil {
		return problem
	}
	if dropped := droppedKeys(keys, response.GetReceivedKeys()); len(dropped) > 0 {
		return &greetingProblem{holds: true, message: "METADATA_DROPPED: something on the way drops the metadata " +
			strings.Join(dropped, ", ") + ", so that a command can't be recognized; no command is sent to it"}
	}
	g.setTold(response)
	if g.has(treatyv1.ParticipantFeature_PARTICIPANT_FEATURE_STREAM_COMMANDS) {
		p.streams.want()
	}
	if mark != wire.AnswerDone {
		g.logger.Warn("TRAILERS_DROPPED: something on the way to a participant drops trailers, so its refusals can't "+
			"be told from those of others, and stay in doubt", "participant", p.name, "target", p.target)
	}
	return nil
}

// checkHeard finds out whether another store has taken over. A restored store continues from where the other one was.
func (g *greeting) checkHeard(ctx context.Context, heard *treatyv1.HeardScope) *greetingProblem {
	switch name := g.participant.name; {
	case heard == nil || heard.GetEpoch() == g.self.Epoch:
	case g.self.Restored:
		if _, err := g.self.NextPosition(ctx, heard.GetPosition()); err != nil {
			return &greetingProblem{message: fmt.Sprintf("the store's position can't be raised: %v", err), holds: true}
		}
	case heard.GetEpoch() > g.self.PreviousEpoch:
		g.self.Replaced(fmt.Sprintf("the participant %s has heard the epoch %d, and this store had %d before it was "+
			"opened",
			name, heard.GetEpoch(), g.self.PreviousEpoch), heard.GetEpoch())
	case heard.GetPosition() > g.self.Position:
		g.self.Replaced(fmt.Sprintf("the participant %s has heard the position %d, and this store had %d when it was "+
			"opened: it is an older copy", name, heard.GetPosition(), g.self.Position), heard.GetEpoch())
	case heard.GetStoreId() != "" && heard.GetStoreId() != g.self.StoreID:
		g.logger.Error("another store has the same orchestrator's name: give each orchestrator a name of its own "+
			"(--name)",
			"participant", name, "store", g.self.StoreID, "other", heard.GetStoreId(), "scope", g.self.Scope)
	}
	return nil
}

// droppedKeys returns which of the keys that were sent didn't arrive.
func droppedKeys(sent, received []string) (dropped []string) {
	for i := 0; i < len(sent); i += 2 {
		if !slices.Contains(received, sent[i]) {
			dropped = append(dropped, sent[i])
		}
	}
	return dropped
}

// setTold records that the participant knows the epoch. response is nil if it doesn't describe itself.
func (g *greeting) setTold(response *treatyv1.DescribeResponse) {
	g.told.Store(true)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.problem, g.warned = "", ""
	if response != nil {
		g.description = response
	}
}

// settle lets the commands go that wait for the participant, or holds back those to come.
func (g *greeting) settle(problem *greetingProblem) {
	if problem == nil {
		g.release(g)
		return
	}
	g.mu.Lock()
	g.problem = problem.message
	g.mu.Unlock()
	if problem.holds {
		g.hold(g)
	} else {
		g.release(g)
	}
}

// report logs a problem once.
func (g *greeting) report(problem *greetingProblem) {
	g.mu.Lock()
	known := g.warned == problem.message
	g.warned = problem.message
	g.mu.Unlock()
	if known || g.participant.conn.GetState() != connectivity.Ready {
		return
	}
	level := slog.LevelWarn
	if problem.holds {
		level = slog.LevelError
	}
	g.logger.Log(context.Background(), level, "a participant has a problem: "+problem.message,
		"participant", g.participant.name, "target", g.participant.target)
}
