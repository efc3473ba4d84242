package engine

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// Handle is a saga that was started, or found.
type Handle struct {
	// ID is the last part of the saga's name.
	ID string

	// Existing says that the saga was there already.
	Existing bool

	engine *Engine
	inst   *instance
	ended  <-chan struct{}
}

// Await returns how the saga ended, once it has. When ctx ends first, the saga goes on.
func (h *Handle) Await(ctx context.Context) (SagaEnd, error) {
	if h.ended == nil {
		return h.engine.Await(ctx, h.ID)
	}
	select {
	case <-h.ended:
		if h.inst.end.State == treatyv1.SagaState_SAGA_STATE_UNSPECIFIED {
			return h.engine.Await(ctx, h.ID)
		}
		return h.inst.end, nil
	case <-ctx.Done():
		return SagaEnd{}, context.Cause(ctx)
	}
}

// Ended returns how the saga ended; false when it hasn't. It doesn't wait.
func (h *Handle) Ended(ctx context.Context) (SagaEnd, bool, error) {
	if h.ended != nil {
		select {
		case <-h.ended:
		default:
			return SagaEnd{}, false, nil
		}
	}
	row, err := h.engine.config.Store.Get(ctx, h.ID)
	if err != nil {
		return SagaEnd{}, false, fmt.Errorf("looking for the end of saga %s: %w", h.ID, err)
	}
	if row.EndTime.IsZero() {
		return SagaEnd{}, false, nil
	}
	end, err := h.engine.Await(ctx, h.ID)
	return end, err == nil, err
}

// start is machine.Start by another name, so that loading can tell it apart without looking inside.
type start = machine.Start

// Start starts a saga and returns once that is durable. When a saga of that id is there with the same definition and request, it returns that
// one. The errors are ErrNoDefinition, ErrOtherRequest, ErrPurged, ErrInDoubt (ask again with the same request id) and ErrStopping.
func (e *Engine) Start(ctx context.Context, params StartParams) (*Handle, error) {
	if e.config.Definitions[params.Definition] == nil {
		return nil, fmt.Errorf("%w: %s", ErrNoDefinition, params.Definition)
	}
	return e.start(ctx, params, asUsual)
}

// beginning says how a saga begins.
type beginning bool

const (
	asUsual      beginning = false
	undoneAtOnce beginning = true // its parent undoes it before it began
)

// errGone says that a saga that seemed to be there isn't.
var errGone = errors.New("the saga isn't there after all")

func (e *Engine) start(ctx context.Context, params StartParams, how beginning) (*Handle, error) {
	const tries = 3
	for range tries {
		// Somebody may have looked for the saga in vain at that moment, or an earlier start of it may have failed.
		handle, err := e.tryStart(ctx, params, how)
		if !errors.Is(err, errGone) {
			return handle, err
		}
	}
	return nil, fmt.Errorf("%w: starts of saga %s came and failed", ErrInDoubt, params.SagaID)
}

func (e *Engine) tryStart(ctx context.Context, params StartParams, how beginning) (*Handle, error) {
	if !e.enter() {
		return nil, ErrStopping
	}
	now := e.config.Clock.Now()
	id := params.SagaID
	if id == "" {
		id = NewID(now, params.Definition, params.RequestID)
	}
	// The instance is whole before anybody else can see it.
	answer := make(chan error, 1)
	inst := newInstance(id)
	inst.ended, inst.busy = make(chan struct{}), true
	inst.machine = e.newMachine(id, params.Definition, 0)
	inst.tasks = []task{{input: start{Started: newStarted(now, params), Compensated: bool(how)}, answer: answer}}
	handle := &Handle{ID: id, engine: e, inst: inst, ended: inst.ended}

	e.mu.Lock()
	if e.sagas[id] != nil {
		e.mu.Unlock()
		defer e.leave()
		return e.attach(ctx, id, params)
	}
	e.sagas[id] = inst
	e.mu.Unlock()
	go func() {
		defer e.leave()
		e.fly(e.run(inst))
	}()
	select {
	case err := <-answer:
		if errors.Is(err, journal.ErrExists) {
			return e.attach(ctx, id, params)
		}
		if err != nil {
			return nil, err
		}
		return handle, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrInDoubt, context.Cause(ctx))
	}
}

func newStarted(now time.Time, params StartParams) *treatyv1.SagaStarted {
	var seed [8]byte
	_, _ = rand.Read(seed[:]) // never fails
	started := &treatyv1.SagaStarted{
		Definition: params.Definition, Request: params.Request, RequestId: params.RequestID,
		Seed: binary.LittleEndian.Uint64(seed[:]), Labels: params.Labels, Trace: params.Trace, Parent: params.Parent,
	}
	if params.Deadline > 0 {
		started.Deadline = timestamppb.New(now.Add(params.Deadline).UTC().Truncate(time.Microsecond))
	}
	return started
}

// noTime is for ids that are derived from something else.
var noTime time.Time

// attach returns the saga that is there already, if it was started with the same request.
func (e *Engine) attach(ctx context.Context, id string, params StartParams) (*Handle, error) {
	// Its start may still be on the way into the store: then its turn comes before this input's.
	if err := e.ask(ctx, id, machine.Wake{}); err != nil && !errors.Is(err, journal.ErrNotFound) {
		return nil, err
	}
	saga, err := e.read(ctx, id)
	switch {
	case errors.Is(err, journal.ErrNotFound):
		return nil, fmt.Errorf("%w: %s", errGone, id)
	case err != nil:
		return nil, err
	case saga.Started.GetDefinition() != params.Definition || !e.sameRequest(params.Definition, saga.FirstRequest, params.Request):
		return nil, fmt.Errorf("%w: sagas/%s", ErrOtherRequest, id)
	}
	return &Handle{ID: id, Existing: true, engine: e}, nil
}

// sameRequest compares two requests by value: serializing isn't stable.
func (e *Engine) sameRequest(definition string, a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	saga, known := e.config.Catalog.SagaDefinition(definition)
	if !known {
		return false
	}
	left, right := dynamicpb.NewMessage(saga.Input), dynamicpb.NewMessage(saga.Input)
	return proto.Unmarshal(a, left) == nil && proto.Unmarshal(b, right) == nil && proto.Equal(left, right)
}

var lowerBase32 = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// NewID makes a saga's id. One that is derived from a request id is the same each time, so that the store itself turns down a second
// start; any other begins with the time, so that new sagas are neighbours in the store's index.
func NewID(now time.Time, definition, requestID string) string {
	if requestID != "" {
		sum := sha256.Sum256([]byte(definition + "\x00" + requestID))
		return "r" + lowerBase32.EncodeToString(sum[:20])
	}
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:8], uint64(now.UnixMilli())<<16)
	_, _ = rand.Read(raw[6:]) // never fails
	return "s" + lowerBase32.EncodeToString(raw[:])
}

// derived says whether an id comes from a client's request id or a parent's command, so that it would come again: a second saga of that id would
// send commands that participants have answered before. Other ids come from time and chance.
func derived(id string) bool { return !strings.HasPrefix(id, "s") }

// Await returns how a saga ended, once it has. The errors are journal.ErrNotFound, ErrStopping and ctx's.
func (e *Engine) Await(ctx context.Context, id string) (SagaEnd, error) {
	changes, cancel := e.watchers.subscribe(id)
	defer cancel()
	for {
		row, err := e.config.Store.Get(ctx, id)
		if err != nil {
			return SagaEnd{}, fmt.Errorf("awaiting saga %s: %w", id, err)
		}
		if !row.EndTime.IsZero() {
			saga, err := e.read(ctx, id)
			if err != nil {
				return SagaEnd{}, err
			}
			return endOf(saga), nil
		}
		select {
		case <-changes:
		case <-e.ctx.Done():
			return SagaEnd{}, ErrStopping
		case <-ctx.Done():
			return SagaEnd{}, context.Cause(ctx)
		}
	}
}

// read folds a saga's journal without its code.
func (e *Engine) read(ctx context.Context, id string) (*machine.Saga, error) {
	stored, err := e.config.Store.Load(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("reading saga %s: %w", id, err)
	}
	return Fold(stored)
}

// skipped is how many turns are no longer kept since the saga was restarted.
func skipped(stored *journal.Journal) uint64 {
	if len(stored.Turns) == 0 {
		return 0
	}
	return stored.Turns[0].Number - 1
}

// Fold reads a stored saga without its code. The errors are journal.ErrCorrupt and machine.ErrJournal.
func Fold(stored *journal.Journal) (*machine.Saga, error) {
	if stored.Err != nil {
		return nil, fmt.Errorf("reading saga %s: %w", stored.Row.ID, stored.Err)
	}
	saga := &machine.Saga{ID: stored.Row.ID, Turns: skipped(stored)}
	for _, t := range stored.Turns {
		turn := new(treatyv1.Turn)
		if err := proto.Unmarshal(t.Data, turn); err != nil {
			return nil, fmt.Errorf("%w: saga %s, turn %d: %w", journal.ErrCorrupt, saga.ID, t.Number, err)
		}
		if err := saga.Fold(turn); err != nil {
			return nil, fmt.Errorf("reading saga %s: %w", saga.ID, err)
		}
	}
	return saga, nil
}
