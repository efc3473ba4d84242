package dispatch

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"

	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/rawcodec"
)

// exchange is one call. It holds what gRPC needs pointers to, so that a call takes one allocation for all of it, and
// what the transport reports.
type exchange struct {
	request, reply rawcodec.Message
	trailer        metadata.MD

	// sendings is how often the headers were written: 0 if the call certainly never left, and more than 1 if gRPC
	// repeated it.
	sendings atomic.Int32

	// answered is set when trailers arrived as gRPC. Otherwise the status was made on this side: for a broken
	// connection, a reset stream, or an answer that isn't gRPC.
	answered atomic.Bool
}

// exchangeKey is the key of the exchange in a call's context.
type exchangeKey struct{}

// exchangeContext is the context of a call.
type exchangeContext struct {
	context.Context

	exchange *exchange
}

// Value returns the call's exchange, or what the context that it wraps has.
func (c exchangeContext) Value(key any) any {
	if key == (exchangeKey{}) {
		return c.exchange
	}
	return c.Context.Value(key)
}

// transportWatcher is the stats handler that reports what the transport did to the calls' exchanges.
type transportWatcher struct{}

var _ stats.Handler = transportWatcher{}

// TagRPC returns ctx, which has the exchange already.
func (transportWatcher) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC records what happened to a call.
func (transportWatcher) HandleRPC(ctx context.Context, event stats.RPCStats) {
	switch event.(type) {
	case *stats.OutHeader:
		if x, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
			x.sendings.Add(1)
		}
	case *stats.InTrailer:
		if x, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
			x.answered.Store(true)
		}
	}
}

// TagConn returns ctx.
func (transportWatcher) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context {
	return ctx
}

// HandleConn does nothing.
func (transportWatcher) HandleConn(context.Context, stats.ConnStats) {}

// mark returns the mark of an answer: one of the values of wire.AnswerKey, or nothing if it has none, an unknown one,
// or more than one.
func (x *exchange) mark() string {
	values := x.trailer[wire.AnswerKey]
	if len(values) != 1 || !x.answered.Load() {
		return ""
	}
	switch values[0] {
	case wire.AnswerSettled, wire.AnswerAttempt, wire.AnswerDone:
		return values[0]
	default:
		return ""
	}
}
