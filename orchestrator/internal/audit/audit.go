// Package audit writes who did what at an orchestrator, and who was refused. It writes no payloads.
package audit

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/treatyhq/treaty/orchestrator/access"
	"github.com/treatyhq/treaty/orchestrator/internal/telemetry"
)

// maxPerSecond limits the entries of each kind that strangers can cause, per second.
const maxPerSecond = 50

// quiet are the methods whose allowed calls aren't logged although they don't only read, since there are too many.
var quiet = map[string]bool{
	"treaty.v1.SagaService/HeartbeatStep":      true,
	"treaty.v1.EventService/AcknowledgeEvents": true,
}

// Log is an audit log. Its methods are safe for concurrent use.
type Log struct {
	logger *slog.Logger

	refusals, tokens, handshakes limit
}

// New returns a Log that writes to the logger.
func New(logger *slog.Logger) *Log {
	return &Log{
		logger: logger, refusals: limit{what: "refused calls"}, tokens: limit{what: "refused tokens"},
		handshakes: limit{what: "refused handshakes"},
	}
}

// Decided writes that an action was allowed, or refused if there is a reason. The allowed ones that only read, that
// send a heartbeat, or that acknowledge events aren't written.
func (l *Log) Decided(ctx context.Context, method string, request access.Request, reason error) {
	if reason == nil && (request.Action == access.Read || quiet[method]) {
		return
	}
	if reason != nil && !l.admit(&l.refusals) {
		return
	}
	level, decision := slog.LevelInfo, "allowed"
	attributes := make([]slog.Attr, 0, 13)
	add := func(key, value string) {
		if value != "" {
			attributes = append(attributes, slog.String(key, value))
		}
	}
	add("principal", request.Principal.String())
	if len(request.Principal.DNSNames) > 0 {
		attributes = append(attributes, slog.Any("identities", request.Principal.Identities()))
	}
	add("action", string(request.Action))
	add("definition", request.Definition)
	add("saga", request.Saga)
	add("method", request.Method)
	add("event_type", request.EventType)
	add("source", request.Source)
	add("consumer", request.Consumer)
	if reason != nil {
		level, decision = slog.LevelWarn, "refused"
		add("reason", reason.Error())
	}
	add("decision", decision)
	add("rpc", method)
	add("trace_id", traceID(ctx))
	l.logger.LogAttrs(ctx, level, "access", attributes...)
}

// TokenRefused writes that a call had a bearer token that isn't valid.
func (l *Log) TokenRefused(ctx context.Context, method string, from net.Addr, cause error) {
	if !l.admit(&l.tokens) {
		return
	}
	attributes := []slog.Attr{
		slog.String("from", addressOf(from)), slog.String("rpc", method), slog.String("decision", "refused"),
		slog.String("reason", cause.Error()),
	}
	if id := traceID(ctx); id != "" {
		attributes = append(attributes, slog.String("trace_id", id))
	}
	l.logger.LogAttrs(ctx, slog.LevelWarn, "token refused", attributes...)
}

// HandshakeRefused writes that a connection wasn't established, since its TLS handshake failed.
func (l *Log) HandshakeRefused(from net.Addr, cause error) {
	if !l.admit(&l.handshakes) {
		return
	}
	l.logger.LogAttrs(context.Background(), slog.LevelWarn, "handshake refused", slog.String("from", addressOf(from)),
		slog.String("decision", "refused"), slog.String("reason", cause.Error()))
}

// limit limits the entries of one kind.
type limit struct {
	what string

	mu      sync.Mutex
	began   time.Time // of the second in which entries are counted
	written int       // in that second
	leftOut int       // not yet written
}

// admit returns whether one more entry may be written. What is left out is written as a number, a second later.
func (l *Log) admit(kind *limit) bool {
	kind.mu.Lock()
	defer kind.mu.Unlock()
	if now := time.Now(); now.Sub(kind.began) >= time.Second {
		kind.began, kind.written = now, 0
	}
	if kind.written < maxPerSecond {
		kind.written++
		return true
	}
	if kind.leftOut++; kind.leftOut == 1 {
		time.AfterFunc(time.Second, func() { l.flush(kind) })
	}
	return false
}

// Close writes what hasn't been written yet. The log may be used further.
func (l *Log) Close() {
	for _, kind := range []*limit{&l.refusals, &l.tokens, &l.handshakes} {
		l.flush(kind)
	}
}

func (l *Log) flush(kind *limit) {
	kind.mu.Lock()
	defer kind.mu.Unlock()
	if kind.leftOut == 0 {
		return
	}
	l.logger.LogAttrs(context.Background(), slog.LevelWarn, "entries left out", slog.String("what", kind.what),
		slog.Int("count", kind.leftOut))
	kind.leftOut = 0
}

func traceID(ctx context.Context) string {
	if id := trace.SpanContextFromContext(telemetry.Extract(ctx)).TraceID(); id.IsValid() {
		return id.String()
	}
	return ""
}

func addressOf(address net.Addr) string {
	if address == nil {
		return ""
	}
	return address.String()
}
