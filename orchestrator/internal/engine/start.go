package engine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/growstack"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// StartParams describes a saga to be started.
type StartParams struct {
	// Definition is the saga definition, e.g. "acme.card.v1.CardSagas/IssueCard".
	Definition string

	// Request is the serialized request. It must be valid for the definition's input.
	Request []byte

	// RequestID makes the start idempotent; empty for none. The saga's id is derived from it and the definition unless
	// SagaID is set.
	RequestID string

	// SagaID is the saga's id, if the caller chose one.
	SagaID string

	// Labels are labels, for searching.
	Labels map[string]string

	// Deadline is how long the saga may take; 0 for no limit.
	Deadline time.Duration

	// Trace is the parent of the saga's spans; nil for no trace.
	Trace *treatyv1.TraceAnchor

	// Parent is the step of the parent saga that this saga is; nil for a saga without a parent.
	Parent *treatyv1.Parent

	// Principal is the id of the principal that starts the saga; empty for a parent of this orchestrator.
	Principal string

	// Executed says that the parent has received the saga's reply. It matters only when the saga is to be compensated.
	Executed bool

	// Decision is that of the person who has undone by hand what the saga did. Only ForgetLost sets it.
	Decision *treatyv1.Decision
}

// startMode says how a saga starts.
type startMode int

const (
	startNormally    startMode = iota
	startCompensated           // its parent compensates it before it was started
	startForgotten             // it was lost, and a person has undone it
)

// errStartFailed says that the saga that was in memory isn't in the store: its start failed.
var errStartFailed = errors.New("another start of the saga failed")

// maxStartTries is how often a start is tried while other starts of the same saga fail.
const maxStartTries = 3

// Start starts a saga and returns once that is durable. If a saga with that id, definition and request exists, Start
// returns that saga. The errors are ErrNoDefinition, ErrOtherRequest, ErrPurged, ErrInDoubt (repeat the call with the
// same request id) and ErrStopping.
func (e *Engine) Start(ctx context.Context, params StartParams) (*Handle, error) {
	if e.config.Definitions[params.Definition] == nil {
		return nil, fmt.Errorf("%w: %s", ErrNoDefinition, params.Definition)
	}
	return e.start(ctx, params, startNormally)
}

func (e *Engine) start(ctx context.Context, params StartParams, mode startMode) (*Handle, error) {
	if err := e.gate.err(); err != nil {
		return nil, err
	}
	for range maxStartTries {
		handle, err := e.tryStart(ctx, params, mode)
		if !errors.Is(err, errStartFailed) {
			return handle, err
		}
	}
	return nil, fmt.Errorf("%w: other starts of saga %s failed", ErrInDoubt, params.SagaID)
}

func (e *Engine) tryStart(ctx context.Context, params StartParams, mode startMode) (*Handle, error) {
	now := e.config.now()
	id := params.SagaID
	if id == "" {
		id = NewID(now, e.config.Store.Identity().Name, params.Definition, params.RequestID)
	}
	if err := e.horizons.noteStart(ctx, params.Parent); err != nil {
		return nil, err
	}
	restored, err := e.lost.restored(id, mode)
	if err != nil {
		return nil, err
	}
	started, err := e.starts.begin(&params)
	if err != nil {
		// A saga that exists is found all the same.
		if params.RequestID == "" {
			return nil, err
		}
		handle, attachErr := e.attach(ctx, id, params)
		if attachErr == nil || errors.Is(attachErr, ErrOtherRequest) {
			return handle, attachErr
		}
		return nil, err
	}
	defer started()
	// The instance is complete before others can find it in the register.
	answer := make(chan error, 1)
	inst := newInstance(id)
	inst.ended, inst.running = make(chan struct{}), true
	inst.machine = e.loader.newMachine(inst, params.Definition, 0)
	start := machine.Start{
		Started: newStarted(now, id, params), Compensated: mode != startNormally, Restored: restored,
		Decision: params.Decision,
	}
	inst.put(message{input: start, answer: answer})
	handle := &Handle{ID: id, engine: e, inst: inst, ended: inst.ended}

	if !e.work.Enter() {
		return nil, ErrStopping
	}
	if !e.register.add(inst) {
		defer e.work.Leave()
		return e.attach(ctx, id, params)
	}
	go func() {
		defer e.work.Leave()
		growstack.Grow()
		e.driver.sender.send(e.driver.run(inst))
	}()
	select {
	case err := <-answer:
		if errors.Is(err, journal.ErrExists) {
			return e.attach(ctx, id, params)
		}
		if err != nil {
			return nil, err
		}
		e.lost.found(id)
		return handle, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrInDoubt, context.Cause(ctx))
	}
}

func newStarted(now time.Time, id string, params StartParams) *treatyv1.SagaStarted {
	started := &treatyv1.SagaStarted{
		Definition: params.Definition, Request: params.Request, RequestId: params.RequestID,
		Seed: seedOf(id), Labels: params.Labels, Trace: params.Trace, Parent: params.Parent,
		Principal: params.Principal,
	}
	if params.Deadline > 0 {
		started.Deadline = timestamppb.New(now.Add(params.Deadline).UTC().Truncate(time.Microsecond))
	}
	return started
}

// seedOf returns the seed of saga.NewID and saga.Rand. It follows from the saga's id: a saga whose start was lost with
// the store, and that is started again with the same request id, sends the same requests.
func seedOf(id string) uint64 {
	sum := sha256.Sum256([]byte("seed\x00" + id))
	return binary.LittleEndian.Uint64(sum[:])
}

// attach returns the saga that exists already, if it was started with the same request.
func (e *Engine) attach(ctx context.Context, id string, params StartParams) (*Handle, error) {
	// Its start may not be durable yet. The mailbox keeps the order, so this input's turn comes after it.
	if err := e.ask(ctx, id, machine.Wake{}); err != nil && !errors.Is(err, journal.ErrNotFound) {
		return nil, err
	}
	saga, err := e.loader.read(ctx, id)
	switch {
	case errors.Is(err, journal.ErrNotFound):
		return nil, fmt.Errorf("%w: %s", errStartFailed, id)
	case err != nil:
		return nil, err
	case !e.sameRequest(params, saga):
		return nil, otherRequest(saga)
	}
	return &Handle{ID: id, Existing: true, Principal: saga.Started.GetPrincipal(), engine: e}, nil
}

// sameRequest returns whether a saga was started with the same definition and request. The digests of commands decide,
// if both are known. A command that was closed has no request: it matches every one. Otherwise requests are compared by
// value, since serialization isn't stable.
func (e *Engine) sameRequest(params StartParams, saga *machine.Saga) bool {
	if saga.Started.GetDefinition() != params.Definition {
		return false
	}
	parent, request := saga.Started.GetParent(), saga.FirstRequest
	asked, known := params.Parent.GetRequestDigest(), parent.GetRequestDigest()
	switch {
	case asked != "" && known != "":
		return asked == known
	case params.Parent.GetClosed() || parent.GetClosed() || bytes.Equal(params.Request, request):
		return true
	}
	definition, defined := e.config.Catalog.SagaDefinition(params.Definition)
	if !defined {
		return false
	}
	a, b := dynamicpb.NewMessage(definition.Input), dynamicpb.NewMessage(definition.Input)
	return proto.Unmarshal(params.Request, a) == nil && proto.Unmarshal(request, b) == nil && proto.Equal(a, b)
}
