package commandstream

import (
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"
)

// Durations records how long commands take.
type Durations struct {
	histogram metric.Float64Histogram
	known     sync.Map // the options of what was recorded before, by durationKey
}

// durationKey is what a duration is recorded under.
type durationKey struct {
	method *Method
	code   codes.Code
}

// NewDurations returns a Durations that records in a histogram of seconds, with the attributes that otelgrpc records
// for unary calls.
func NewDurations(histogram metric.Float64Histogram) *Durations {
	return &Durations{histogram: histogram}
}

// record records the duration of a call that has ended.
func (d *Durations) record(c *call) {
	key := durationKey{method: c.method, code: codes.Code(c.answer.GetFailure().GetCode())}
	options, known := d.known.Load(key)
	if !known {
		name := code.Code(key.code).String()
		attributes := append(methodAttributes(c.method.Path), semconv.RPCResponseStatusCode(name))
		if isServerError(key.code) {
			attributes = append(attributes, semconv.ErrorTypeKey.String(name))
		}
		options, _ = d.known.LoadOrStore(key, []metric.RecordOption{
			metric.WithAttributeSet(attribute.NewSet(attributes...)),
		})
	}
	d.histogram.Record(c, time.Since(c.began).Seconds(),
		options.([]metric.RecordOption)...) //nolint:forcetypeassert // Only this method stores.
}

// isServerError returns whether a status is an error of the server, by the conventions of OpenTelemetry.
func isServerError(code codes.Code) bool {
	switch code {
	case codes.Unknown, codes.DeadlineExceeded, codes.Unimplemented, codes.Internal, codes.Unavailable, codes.DataLoss:
		return true
	default:
		return false
	}
}

func methodAttributes(path string) []attribute.KeyValue {
	return []attribute.KeyValue{semconv.RPCMethod(path[1:]), semconv.RPCSystemNameGRPC}
}
