package hostile

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Program returns the plan of a call. The middle asks it once for each stream, when the headers of the request have
// arrived, and never for two streams at once. It must not block: the connection's other frames wait for it.
type Program func(call *Call) Plan

// Place is the moment at which the client gets an answer that isn't the upstream's.
type Place int

const (
	// BeforeRequest is before the request goes up. Unless the plan has deliveries, the request never does, and the
	// client is answered as soon as its headers are there. If the plan has some, the client is answered when the middle
	// has the whole request.
	BeforeRequest Place = iota

	// AfterRequest is when the whole request has gone up, or the upstream answers before that, as it does in streams.
	// The upstream carries the request out, before or after the client is answered.
	AfterRequest

	// AfterAnswer is when the upstream has answered completely, and the client has seen nothing of it. A stream gets
	// nothing until it ends.
	AfterAnswer

	// AfterHeaders is when the client has got the headers of the upstream's answer. An answer without headers, such as
	// that of most errors, isn't passed on.
	AfterHeaders

	// BeforeTrailers is when the client has got everything but the trailers of the upstream's answer.
	BeforeTrailers
)

// String returns the place in words, e.g. "after the request".
func (p Place) String() string {
	switch p {
	case BeforeRequest:
		return "before the request"
	case AfterRequest:
		return "after the request"
	case AfterAnswer:
		return "after the answer"
	case AfterHeaders:
		return "after the headers"
	case BeforeTrailers:
		return "before the trailers"
	default:
		return fmt.Sprintf("at the unknown place %d", int(p))
	}
}

// Delivery is one time that a request goes up. The zero Delivery goes up at once, frame by frame, and is reset when the
// client resets its stream. One that waits goes up completely, also when the client has given up by then. Each delivery
// has a stream of its own.
type Delivery struct {
	// Until holds the delivery back until the channel is closed or receives. Nil doesn't.
	Until <-chan struct{}

	// Delay is how long the delivery waits after that.
	Delay time.Duration

	// DropMetadata are the keys of the request's metadata that don't go up.
	DropMetadata []string
}

// waits reports whether the delivery goes up later than the request arrives.
func (d Delivery) waits() bool { return d.Until != nil || d.Delay > 0 }

// Plan says what becomes of a call. The zero Plan passes it on unharmed. A Plan is a value: methods return a changed
// copy.
type Plan struct {
	// Deliveries are the times that the request goes up. The client gets the answer of the first, and those of the
	// others are dropped. With none, the request goes up once and at once, except for an answer [BeforeRequest] by
	// which the client doesn't get the upstream's: then it never goes up.
	Deliveries []Delivery

	// Answer is what the client gets. The zero Answer is the upstream's.
	Answer Answer

	// At is when it gets it. It doesn't matter for the upstream's answer.
	At Place
}

// Pass returns the plan that passes a call on unharmed. It is the zero Plan.
func Pass() Plan { return Plan{} }

// Give returns the plan by which the client gets an answer at a place.
func Give(answer Answer, at Place) Plan { return Plan{Answer: answer, At: at} }

// Swallow returns the plan by which the request never goes up, and the client gets nothing.
func Swallow() Plan { return Give(Stall(), BeforeRequest) }

// And adds a delivery: of a request that goes up anyway another one, whose answer is dropped. Of a request that
// doesn't, it is the only one, and comes late.
func (p Plan) And(more Delivery) Plan {
	p.Deliveries = append(p.deliveries(), more)
	return p
}

// Twice delivers the request once more, at once.
func (p Plan) Twice() Plan { return p.And(Delivery{}) }

// Held holds the first delivery back until release is closed or receives.
func (p Plan) Held(release <-chan struct{}) Plan {
	return p.first(func(d *Delivery) { d.Until = release })
}

// Delayed delays the first delivery.
func (p Plan) Delayed(delay time.Duration) Plan {
	return p.first(func(d *Delivery) { d.Delay = delay })
}

// WithoutMetadata drops keys of the request's metadata from every delivery that the plan has so far.
func (p Plan) WithoutMetadata(keys ...string) Plan {
	p.Deliveries = p.deliveries()
	for i := range p.Deliveries {
		p.Deliveries[i].DropMetadata = append(slices.Clone(p.Deliveries[i].DropMetadata), keys...)
	}
	return p
}

// first changes the first delivery. It adds one if the request wouldn't go up.
func (p Plan) first(change func(*Delivery)) Plan {
	p.Deliveries = p.deliveries()
	if len(p.Deliveries) == 0 {
		p.Deliveries = []Delivery{{}}
	}
	change(&p.Deliveries[0])
	return p
}

// deliveries returns a copy of the deliveries, with the one that goes without saying.
func (p Plan) deliveries() []Delivery {
	if len(p.Deliveries) > 0 || !p.Answer.goesOn() && p.At == BeforeRequest {
		return slices.Clone(p.Deliveries)
	}
	return []Delivery{{}}
}

// String describes the plan in a few words, without its times: "RST_STREAM REFUSED_STREAM after the answer, 2
// deliveries". Plans of the same sort have the same description.
func (p Plan) String() string {
	parts := []string{p.Answer.String()}
	if p.Answer.kind != upstreams {
		parts[0] += " " + p.At.String()
	}
	deliveries := p.deliveries()
	switch {
	case len(deliveries) == 1 && p.At == BeforeRequest && !p.Answer.goesOn():
		parts = append(parts, "late delivery")
	case len(deliveries) == 1 && deliveries[0].waits():
		parts = append(parts, "delayed")
	case len(deliveries) > 1:
		parts = append(parts, fmt.Sprintf("%d deliveries", len(deliveries)))
	}
	if slices.ContainsFunc(deliveries, func(d Delivery) bool { return len(d.DropMetadata) > 0 }) {
		parts = append(parts, "without metadata")
	}
	return strings.Join(parts, ", ")
}
