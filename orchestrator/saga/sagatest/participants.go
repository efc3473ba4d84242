package sagatest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/admission"
	"github.com/treatyhq/treaty/orchestrator/internal/dispatch"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/participant"
)

// maxAttempts is how often a command is sent until the saga counts as one that doesn't end. The attempts of a hundred
// years would take too long.
const maxAttempts = 20_000

// handler executes a command.
type handler func(ctx context.Context, request proto.Message) (proto.Message, error)

// participants are all participants. Each has an inbox: it executes a command once, and answers a repeated one with
// what it answered before. It implements engine.Dispatcher.
type participants struct {
	world *World
	guard grpc.UnaryServerInterceptor

	// middle delivers an attempt, or does something else. Nil: it is delivered.
	middle func(attempt *engine.Attempt, deliver func(Answer) engine.Answer) engine.Answer

	endless context.Context //nolint:containedctx // it ends when a command was sent maxAttempts times
	tooMany context.CancelCauseFunc

	mu       sync.Mutex
	handlers map[string]handler  // by method
	scripts  map[string][]Answer // by method: the answers to the next attempts
	parts    map[string][]string // by service: who takes part in its broadcasts
	entries  map[string]*entry   // by command id and participant
	commands []*Command          // in the order of their first attempts
	byKey    map[commandKey]*Command
	undone   []undo   // in their order
	again    []string // actions that the process that sent their compensations, or a later one, sent after them
	count    int      // of effects
}

// undo is a compensation that took effect.
type undo struct {
	saga, step, method string
	acted, undone      int // when the action and the compensation took effect, counted in effects
}

// commandKey identifies a command in one direction.
type commandKey struct {
	id        string
	direction engine.Direction
}

// entry is what a participant's inbox holds about a command.
type entry struct {
	// free holds a token while no handler runs. It is a channel, since virtual time stands still while somebody waits
	// for a mutex.
	free chan struct{}

	method, digest string
	query          bool           // it has no effect
	verdict        engine.Verdict // of the action; NotAnswered before it arrived
	reply          []byte
	refusal        *treatyv1.Failure
	pending        time.Duration
	undone         bool
	undoReply      []byte
	undoPending    time.Duration // the compensation was accepted

	actions, undos int // how often each took effect
	acted          int // when the action took effect last, counted in effects
}

func (e *entry) lock()   { <-e.free }
func (e *entry) unlock() { e.free <- struct{}{} }

func newParticipants(w *World) *participants {
	endless, tooMany := context.WithCancelCause(context.Background())
	return &participants{
		endless: endless, tooMany: tooMany,
		world: w, guard: participant.UnaryServerInterceptor(w.logger),
		handlers: make(map[string]handler), scripts: make(map[string][]Answer), parts: make(map[string][]string),
		entries: make(map[string]*entry), byKey: make(map[commandKey]*Command),
	}
}

// Attempt delivers an attempt, and waits for the answer until the method's timeout passes or ctx ends. The participant
// isn't interrupted; the context of its handler ends.
func (p *participants) Attempt(ctx context.Context, attempt *engine.Attempt) engine.Answer {
	ctx, cancel := context.WithTimeout(ctx, attempt.Call.Timeout)
	answered := make(chan engine.Answer, 1)
	copied := *attempt // the caller may change its own later
	go func() {
		defer cancel()
		answered <- p.send(ctx, &copied)
	}()
	select {
	case answer := <-answered:
		return answer
	case <-ctx.Done():
	}
	select {
	case answer := <-answered:
		return answer
	default:
		return lost("no answer in time")
	}
}

// send sends an attempt with what the script of its method says.
func (p *participants) send(ctx context.Context, attempt *engine.Attempt) engine.Answer {
	p.note(attempt)
	script := p.next(attempt.Call.Method)
	deliver := func(answer Answer) engine.Answer { return p.deliver(ctx, attempt, answer) }
	switch {
	case script.loss == requestLost:
		return lost("the request was lost")
	case script.loss == replyLost:
		deliver(script)
		return lost("the reply was lost")
	case script == Answer{} && p.middle != nil:
		return p.middle(attempt, deliver)
	default:
		return deliver(script)
	}
}

// lost is the answer of an attempt that nobody answered.
func lost(message string) engine.Answer {
	return engine.Answer{
		Outcome: treatyv1.Outcome_OUTCOME_UNKNOWN,
		Failure: &treatyv1.Failure{Code: int32(codes.Unavailable), Message: message},
	}
}

// note records an attempt.
func (p *participants) note(attempt *engine.Attempt) {
	key := keyOf(attempt)
	p.mu.Lock()
	defer p.mu.Unlock()
	undo := p.byKey[commandKey{key.id, engine.Compensation}]
	if key.direction != engine.Compensation && undo != nil && attempt.Epoch >= undo.epoch {
		p.again = append(p.again, fmt.Sprintf("step %s (%s) of %s", attempt.Step, attempt.Call.Method, attempt.Saga))
	}
	if command := p.byKey[key]; command != nil {
		if command.Attempts++; command.Attempts == maxAttempts {
			p.tooMany(fmt.Errorf("step %s (%s) of %s was sent %d times, and its outcome is still unknown: let the "+
				"participant answer", attempt.Step, attempt.Call.Method, attempt.Saga, maxAttempts))
		}
		return
	}
	request := typeOf(attempt.Call.Input).New().Interface()
	if err := proto.Unmarshal(attempt.Request, request); err != nil {
		p.world.t.Errorf("reading the request of %s: %v", attempt.Call.Method, err)
	}
	command := &Command{
		Method: attempt.Call.Method, Compensation: attempt.Direction == engine.Compensation, Step: attempt.Step,
		Participant: attempt.Participant, Request: request, Attempts: 1, saga: attempt.Saga,
		epoch: attempt.Epoch,
	}
	p.byKey[key] = command
	p.commands = append(p.commands, command)
}

func keyOf(attempt *engine.Attempt) commandKey {
	return commandKey{wire.JoinStep(attempt.Saga, attempt.Step), attempt.Direction}
}

// find returns the command of an attempt that was noted.
func (p *participants) find(attempt *engine.Attempt) *Command {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.byKey[keyOf(attempt)]
}

// all returns all commands, in the order of their first attempts.
func (p *participants) all() []*Command {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.commands)
}

// effects returns how often each command has taken effect, in both directions. Queries have none.
func (p *participants) effects() map[string]int {
	p.mu.Lock()
	entries := maps.Clone(p.entries)
	p.mu.Unlock()
	effects := make(map[string]int)
	for id, e := range entries {
		if e.query {
			continue
		}
		e.lock()
		effects["action "+id], effects["compensation "+id] = e.actions, e.undos
		e.unlock()
	}
	return effects
}

// next takes the next answer from a method's script.
func (p *participants) next(method string) Answer {
	p.mu.Lock()
	defer p.mu.Unlock()
	script := p.scripts[method]
	if len(script) == 0 {
		return Answer{}
	}
	p.scripts[method] = script[1:]
	return script[0]
}

func (p *participants) entry(attempt *engine.Attempt) *entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := attempt.Saga + " " + attempt.Step
	e := p.entries[key]
	if e == nil {
		e = &entry{method: attempt.Call.Method, digest: attempt.Digest,
			query: attempt.Kind == treatyv1.CommandKind_COMMAND_KIND_QUERY, free: make(chan struct{}, 1)}
		e.unlock()
		p.entries[key] = e
	}
	return e
}

// deliver hands an attempt to the participant.
func (p *participants) deliver(ctx context.Context, attempt *engine.Attempt, script Answer) engine.Answer {
	e := p.entry(attempt)
	e.lock()
	defer e.unlock()
	if attempt.Direction == engine.Compensation {
		return p.compensate(ctx, e, attempt, script)
	}
	return p.act(ctx, e, attempt, script)
}

func (p *participants) act(ctx context.Context, e *entry, attempt *engine.Attempt, script Answer) engine.Answer {
	switch {
	case e.verdict == engine.WasExecuted && !e.undone:
		return engine.Answer{Outcome: treatyv1.Outcome_OUTCOME_DONE, Reply: e.reply}
	case e.verdict == engine.WasRefused:
		return refused(e.refusal)
	case e.verdict == engine.WasAccepted && !e.undone:
		return engine.Answer{Outcome: treatyv1.Outcome_OUTCOME_UNKNOWN, Pending: e.pending}
	case e.undone || e.verdict == engine.ClosedNow:
		e.verdict, e.refusal = engine.WasRefused, &treatyv1.Failure{
			Code: int32(codes.Aborted), Message: "the command was compensated before",
		}
		return refused(e.refusal)
	}
	reply, pending, err := p.execute(ctx, attempt, script)
	switch {
	case pending > 0:
		e.verdict, e.pending = engine.WasAccepted, pending
		p.acted(e)
		return engine.Answer{Outcome: treatyv1.Outcome_OUTCOME_UNKNOWN, Pending: pending}
	case err == nil:
		e.verdict, e.reply = engine.WasExecuted, reply
		p.acted(e)
		return engine.Answer{Outcome: treatyv1.Outcome_OUTCOME_DONE, Reply: reply}
	}
	answer := failed(attempt.Call, err)
	if answer.Outcome == treatyv1.Outcome_OUTCOME_REFUSED {
		e.verdict, e.refusal = engine.WasRefused, answer.Failure
		return refused(e.refusal)
	}
	return answer
}

// acted counts an effect of an action.
func (p *participants) acted(e *entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count++
	e.acted = p.count
	e.actions++
}

func (p *participants) compensate(ctx context.Context, e *entry, attempt *engine.Attempt, script Answer) engine.Answer {
	done := func(reply []byte) engine.Answer {
		e.undone, e.undoReply = true, reply
		return engine.Answer{Outcome: treatyv1.Outcome_OUTCOME_DONE, Reply: reply}
	}
	switch {
	case e.undone:
		return done(e.undoReply)
	case e.verdict != engine.WasExecuted && e.verdict != engine.WasAccepted:
		return done([]byte{})
	case e.undoPending > 0:
		return engine.Answer{Outcome: treatyv1.Outcome_OUTCOME_UNKNOWN, Pending: e.undoPending}
	}
	reply, pending, err := p.execute(ctx, attempt, script)
	switch {
	case pending > 0:
		e.undoPending = pending
		return engine.Answer{Outcome: treatyv1.Outcome_OUTCOME_UNKNOWN, Pending: pending}
	case err != nil:
		return failed(attempt.Call, err)
	}
	p.undid(e, attempt.Saga, attempt.Step)
	return done(reply)
}

// undid counts an effect of a compensation.
func (p *participants) undid(e *entry, saga, step string) {
	e.undos++
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count++
	p.undone = append(p.undone, undo{saga, step, e.method, e.acted, p.count})
}

func refused(failure *treatyv1.Failure) engine.Answer {
	return engine.Answer{Outcome: treatyv1.Outcome_OUTCOME_REFUSED, Evidence: engine.Settled, Failure: failure}
}

// failed returns the answer of a handler that returned an error.
func failed(call *contract.CallConfig, err error) engine.Answer {
	st := status.Convert(err)
	answer := engine.Answer{
		Outcome: contract.OutcomeOf(call, st.Code()),
		Failure: &treatyv1.Failure{Code: int32(st.Code()), Message: st.Message(), Details: st.Proto().GetDetails()},
	}
	if answer.Outcome != treatyv1.Outcome_OUTCOME_UNKNOWN {
		answer.Evidence = engine.AttemptNotRun
	}
	return answer
}

// execute calls the handler of a command, as a server with the participant's library does. A wait greater than 0 means
// that the command was accepted.
func (p *participants) execute(
	ctx context.Context, attempt *engine.Attempt, script Answer,
) (reply []byte, pending time.Duration, err error) {
	request := typeOf(attempt.Call.Input).New().Interface()
	if err := proto.Unmarshal(attempt.Request, request); err != nil {
		return nil, 0, fmt.Errorf("reading the request: %w", err)
	}
	handle := p.handlerOf(attempt.Call, script)
	info := &grpc.UnaryServerInfo{FullMethod: "/" + attempt.Call.Method}
	result, err := p.guard(incoming(ctx, attempt), request, info, func(ctx context.Context, in any) (any, error) {
		out, err := handle(ctx, in.(proto.Message))
		if wait, ok := participant.IsPending(err); ok {
			pending = wait
			return typeOf(attempt.Call.Output).New().Interface(), nil // as a server answers
		}
		return out, err
	})
	if err != nil || pending > 0 {
		return nil, pending, err
	}
	reply, err = proto.MarshalOptions{Deterministic: true}.Marshal(result.(proto.Message))
	if reply == nil {
		reply = []byte{}
	}
	return reply, 0, err
}

func (p *participants) handlerOf(call *contract.CallConfig, script Answer) handler {
	switch {
	case script.err != nil:
		return func(context.Context, proto.Message) (proto.Message, error) { return nil, script.err }
	case script.reply != nil:
		return func(context.Context, proto.Message) (proto.Message, error) { return script.reply, nil }
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if given := p.handlers[call.Method]; given != nil {
		return given
	}
	return func(_ context.Context, request proto.Message) (proto.Message, error) {
		return plausible(call.Output, request), nil
	}
}

// incoming returns the context of a call that carries a command.
func incoming(ctx context.Context, attempt *engine.Attempt) context.Context {
	direction := participant.Action
	if attempt.Direction == engine.Compensation {
		direction = participant.Compensation
	}
	command := participant.Command{
		Saga: attempt.Saga, CommandID: wire.JoinStep(attempt.Saga, attempt.Step), Direction: direction,
		Attempt: attempt.Number, Epoch: attempt.Epoch, Scope: "test/0", Start: attempt.SagaStart,
		RequestDigest: attempt.Digest,
	}
	sent, _ := metadata.FromOutgoingContext(command.Outgoing(context.Background()))
	return metadata.NewIncomingContext(ctx, sent)
}

// Delay returns the wait of the contract's policy, without jitter.
func (p *participants) Delay(call *contract.CallConfig, attempt int, answer engine.Answer) time.Duration {
	return max(dispatch.Interval(call.Retry, attempt), answer.RetryAfter)
}

// Admit admits every command.
func (p *participants) Admit(
	engine.Destination, *contract.CallConfig, admission.Claim, func(*admission.Slot),
) (*admission.Slot, *admission.Wait) {
	return nil, nil
}

// FirstWaitsSince returns false: no command waits.
func (p *participants) FirstWaitsSince(string) (since time.Time, waits bool) {
	return time.Time{}, false
}

// CloseCommand makes sure that a command that hasn't arrived isn't executed later.
func (p *participants) CloseCommand(_ context.Context, attempt *engine.Attempt) engine.Closed {
	e := p.entry(attempt)
	e.lock()
	defer e.unlock()
	switch {
	case e.undone:
		return engine.Closed{Verdict: engine.WasCompensated}
	case e.verdict == engine.NotAnswered:
		e.verdict = engine.ClosedNow
	}
	return engine.Closed{Verdict: e.verdict, Reply: e.reply, Failure: e.refusal}
}

// LookUp returns what the participant holds about a command.
func (p *participants) LookUp(_ context.Context, attempt *engine.Attempt) engine.Known {
	e := p.entry(attempt)
	e.lock()
	defer e.unlock()
	known := engine.Known{Verdict: e.verdict, Method: e.method, Digest: e.digest}
	switch {
	case e.undone:
		known.Verdict = engine.WasCompensated
	case e.verdict == engine.NotAnswered:
		known = engine.Known{Verdict: engine.NeverSeen}
	}
	return known
}

// TakingPart returns who takes part in the broadcasts of a service: one participant, unless the test says otherwise.
func (p *participants) TakingPart(service string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if names, ok := p.parts[service]; ok {
		return names
	}
	return []string{service}
}
