package telemetry

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"

	"go.opentelemetry.io/otel/trace"
)

// The kinds of spans. The kind is part of the hash, so that spans of different kinds never share an id.
const (
	idAnchor  = 'A'
	idAttempt = 'T'
	idEnd     = 'E'
)

// deriveSpanID returns a hash of what makes a span unique. Every part ends with a zero byte, which no part contains. It
// doesn't allocate for parts of usual length.
func deriveSpanID(kind byte, saga, step, direction string, attempt int) trace.SpanID {
	var space [192]byte
	b := append(space[:0], kind)
	b = append(b, saga...)
	b = append(b, 0)
	b = append(b, step...)
	b = append(b, 0)
	b = append(b, direction...)
	b = append(b, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(attempt))
	sum := sha256.Sum256(b)
	id := trace.SpanID(sum[:8])
	if !id.IsValid() {
		id[7] = 1
	}
	return id
}

// attemptSpanID returns the id of an attempt's span. A command that was in flight when the process was killed is sent
// again as the same attempt, so the spans that its participant exported the first time have a parent, too.
func attemptSpanID(saga, step, direction string, attempt int) trace.SpanID {
	return deriveSpanID(idAttempt, saga, step, direction, attempt)
}

// presetSpan is a context that sets the ids and the tracestate of the next span.
type presetSpan struct {
	context.Context
	trace trace.TraceID
	span  trace.SpanID
	state trace.TraceState
}

type presetSpanKey struct{}

func (w *presetSpan) Value(key any) any {
	if _, ok := key.(presetSpanKey); ok {
		return w
	}
	return w.Context.Value(key)
}

// presetIDs generates the ids that a presetSpan sets, and random ones for other contexts.
type presetIDs struct{}

func (presetIDs) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	if w, ok := ctx.Value(presetSpanKey{}).(*presetSpan); ok {
		return w.trace, w.span
	}
	return randomTraceID(), randomSpanID()
}

func (presetIDs) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	if w, ok := ctx.Value(presetSpanKey{}).(*presetSpan); ok {
		return w.span
	}
	return randomSpanID()
}

func randomTraceID() trace.TraceID {
	var id trace.TraceID
	for !id.IsValid() {
		binary.BigEndian.PutUint64(id[:8], rand.Uint64())
		binary.BigEndian.PutUint64(id[8:], rand.Uint64())
	}
	return id
}

func randomSpanID() trace.SpanID {
	var id trace.SpanID
	for !id.IsValid() {
		binary.BigEndian.PutUint64(id[:], rand.Uint64())
	}
	return id
}
