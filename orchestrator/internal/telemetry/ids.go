package telemetry

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// The kinds of spans. The kind is part of the hash, so that spans of different kinds never share an id.
const (
	idAnchor  = 'A'
	idStep    = 'S'
	idAttempt = 'T'
	idEnd     = 'E'
)

// deriveSpanID returns a hash of what makes a span unique. Every part ends with a zero byte, which no part contains. It
// doesn't allocate for parts of usual length.
func deriveSpanID(kind byte, saga, step, direction string, numbers ...uint64) trace.SpanID {
	var space [192]byte
	b := append(space[:0], kind)
	b = append(b, saga...)
	b = append(b, 0)
	b = append(b, step...)
	b = append(b, 0)
	b = append(b, direction...)
	b = append(b, 0)
	for _, number := range numbers {
		b = binary.BigEndian.AppendUint64(b, number)
	}
	sum := sha256.Sum256(b)
	id := trace.SpanID(sum[:8])
	if !id.IsValid() {
		id[0] = 1
	}
	return id
}

// A marker is a span of an anchor or a step. It marks a start, so that the spans below have a parent before it is known
// how long anything takes, and it is the same each time it is exported. Its duration says nothing.
//
// Jaeger assumes that the clocks of two spans differ, and moves the inner one with a warning, if it starts after the
// outer one's end and isn't longer. So each marker takes a microsecond longer than the one above it. The last byte of a
// marker's id is its level, so that an orchestrator that runs a child for another one knows the level, too.

// anchorID returns the id of the anchor of a saga.
func anchorID(saga string, level byte) trace.SpanID {
	return withLevel(deriveSpanID(idAnchor, saga, "", ""), level)
}

// stepID returns the id of a step's marker.
func stepID(saga, step, direction string, level byte) trace.SpanID {
	return withLevel(deriveSpanID(idStep, saga, step, direction), level)
}

func withLevel(id trace.SpanID, level byte) trace.SpanID {
	id[len(id)-1] = level
	if !id.IsValid() {
		id[0] = 1
	}
	return id
}

// levelBelow returns the level of the markers below one.
func levelBelow(marker trace.SpanID) byte { return min(marker[len(marker)-1], 254) + 1 }

// markerDuration returns how long a marker takes.
func markerDuration(marker trace.SpanID) time.Duration {
	return (1 + time.Duration(marker[len(marker)-1])) * time.Microsecond
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
