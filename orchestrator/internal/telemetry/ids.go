package telemetry

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"

	"go.opentelemetry.io/otel/trace"
)

// What a derived span id is for. It is part of what is hashed, so that two kinds of spans never share an id.
const (
	idAnchor  = 'A'
	idAttempt = 'T'
	idEnd     = 'E'
)

// deriveSpanID hashes what makes a span unique. Every part ends with a zero byte, which no part contains. It takes no
// allocations for parts of usual length.
func deriveSpanID(what byte, saga, step, direction string, attempt int) trace.SpanID {
	var space [192]byte
	b := append(space[:0], what)
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

// attemptSpanID is the id of an attempt's span. A command that was under way when the process was killed is sent again as the
// same attempt, so that what its participant traced the first time has a parent: the span that was lost with the process.
func attemptSpanID(saga, step, direction string, attempt int) trace.SpanID {
	return deriveSpanID(idAttempt, saga, step, direction, attempt)
}

// wanted is a context that tells the id generator and the sampler what the next span must be.
type wanted struct {
	context.Context
	trace trace.TraceID
	span  trace.SpanID
	state trace.TraceState
}

type wantedKey struct{}

func (w *wanted) Value(key any) any {
	if _, ok := key.(wantedKey); ok {
		return w
	}
	return w.Context.Value(key)
}

// wantedIDs generates the ids that the context asks for, and random ones for a context that asks for none.
type wantedIDs struct{}

func (wantedIDs) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	if w, ok := ctx.Value(wantedKey{}).(*wanted); ok {
		return w.trace, w.span
	}
	return randomTraceID(), randomSpanID()
}

func (wantedIDs) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	if w, ok := ctx.Value(wantedKey{}).(*wanted); ok {
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
