package hostile

import (
	"math/rand/v2"
	"net/http"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
)

const (
	defaultMaxStall = 2 * time.Second
	defaultMaxLate  = 5 * time.Second
)

// Chances are the probabilities, from 0 to 1, with which [Random] does something to a call. If those of the answers add
// up to more than 1, the last ones are never reached.
type Chances struct {
	// Status answers with one of Codes, HTTP with a proxy's error page, Reset with an RST_STREAM of any code.
	Status, HTTP, Reset float64

	// GoAway sends a GOAWAY that lets the call go on, or claims that it was never looked at.
	GoAway float64

	// Close closes the connection. Stall gives no answer, and HalfOpen none to any call of the connection, for a random
	// time up to MaxStall.
	Close, Stall, HalfOpen float64

	// Slow passes the request on after a random time up to MaxStall, or its answer.
	Slow float64

	// DropMetadata drops one of MetadataKeys on the way up; DropTrailers drops one of TrailerKeys, all trailers but the
	// status, or the status as well.
	DropMetadata, DropTrailers float64

	// NoMessage drops the message of the answer, and TwoMessages repeats it.
	NoMessage, TwoMessages float64

	// Late answers like Status, HTTP, Reset or GoAway, and lets the request go up after a random time up to MaxLate.
	Late float64

	// Duplicate lets the request go up once more, at once or after a random time up to MaxLate. It comes on top of the
	// others, unless the request doesn't go up.
	Duplicate float64

	// MaxStall bounds stalls, half-open connections and slow calls. Default 2 s.
	MaxStall time.Duration

	// MaxLate bounds the delay of deliveries. Default 5 s.
	MaxLate time.Duration

	// Places are those that answers choose from. Default: every place. For streams that last, leave [AfterAnswer] out.
	Places []Place

	// Codes are those that Status and Late choose from. Default: every code but OK.
	Codes []codes.Code

	// MetadataKeys and TrailerKeys are the keys that may be dropped. Without the former, DropMetadata does nothing.
	MetadataKeys, TrailerKeys []string

	// Spare names the calls that are passed on unharmed. Nil spares none.
	Spare func(call *Call) bool
}

// Each returns chances by which each of the answers, Late and Duplicate have the probability p. There are 13 of them
// besides Duplicate, so p is at most 1/13. Add the keys that may be dropped.
func Each(p float64) Chances {
	return Chances{
		Status: p, HTTP: p, Reset: p, GoAway: p, Close: p, Stall: p, HalfOpen: p, Slow: p, DropMetadata: p,
		DropTrailers: p, NoMessage: p, TwoMessages: p, Late: p, Duplicate: p,
	}
}

// Random returns a program that does what chances say. A plan depends on the seed and the call's number alone. Nothing
// lasts for ever: once the middle has the whole request and the upstream has answered it, the call ends for the client,
// and every delivery starts, in bounded time. Random never makes up a status OK, so it can't make a client believe in a
// success that wasn't. It is safe for concurrent use by several middles.
func Random(seed uint64, chances Chances) Program {
	if chances.MaxStall <= 0 {
		chances.MaxStall = defaultMaxStall
	}
	if chances.MaxLate <= 0 {
		chances.MaxLate = defaultMaxLate
	}
	if len(chances.Codes) == 0 {
		for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
			chances.Codes = append(chances.Codes, code)
		}
	}
	if len(chances.Places) == 0 {
		chances.Places = []Place{BeforeRequest, AfterRequest, AfterAnswer, AfterHeaders, BeforeTrailers}
	}
	return func(call *Call) Plan {
		if chances.Spare != nil && chances.Spare(call) {
			return Pass()
		}
		d := dice{rand.New(rand.NewPCG(seed, uint64(call.Number))), chances}
		return d.plan()
	}
}

// dice draw the plan of one call.
type dice struct {
	*rand.Rand
	chances Chances
}

func (d dice) plan() Plan {
	plan := d.answer()
	if d.Float64() < d.chances.Duplicate && len(plan.deliveries()) > 0 {
		again := Delivery{}
		if d.IntN(2) == 0 {
			again.Delay = d.upTo(d.chances.MaxLate)
		}
		plan = plan.And(again)
	}
	return plan
}

func (d dice) answer() Plan {
	c := d.chances
	kinds := []struct {
		chance float64
		plan   func() Plan
	}{
		{c.Status, func() Plan { return Give(d.status(), d.place()) }},
		{c.HTTP, func() Plan { return Give(d.page(), d.place()) }},
		{c.Reset, func() Plan { return Give(d.reset(), d.place()) }},
		{c.GoAway, func() Plan { return Give(d.goAway(), d.place()) }},
		{c.Close, func() Plan { return Give(CloseConn(), d.place()) }},
		{c.Stall, func() Plan { return Give(Stall().For(d.upTo(c.MaxStall)), d.place()) }},
		{c.HalfOpen, func() Plan { return Give(HalfOpen().For(d.upTo(c.MaxStall)), d.place()) }},
		{c.Slow, d.slow},
		{c.DropMetadata, d.dropMetadata},
		{c.DropTrailers, func() Plan { return Plan{Answer: d.dropTrailers()} }},
		{c.NoMessage, func() Plan { return Plan{Answer: Upstream().NoMessage()} }},
		{c.TwoMessages, func() Plan { return Plan{Answer: Upstream().TwoMessages()} }},
		{c.Late, func() Plan { return Give(d.short(), BeforeRequest).And(Delivery{Delay: d.upTo(c.MaxLate)}) }},
	}
	roll := d.Float64()
	for _, kind := range kinds {
		if roll < kind.chance {
			return kind.plan()
		}
		roll -= kind.chance
	}
	return Pass()
}

// short returns an answer that ends the call at once.
func (d dice) short() Answer {
	return pick(d, d.status(), d.page(), d.reset(), GoAwayBelow(http2.ErrCodeNo))
}

func (d dice) status() Answer {
	return Status(pick(d, d.chances.Codes...), "made up by the middle")
}

func (d dice) page() Answer {
	code := pick(d, http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound,
		http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout)
	return HTTP(code, "text/html", "<html><body><h1>"+http.StatusText(code)+"</h1></body></html>")
}

func (d dice) reset() Answer {
	return Reset(http2.ErrCode(d.IntN(int(http2.ErrCodeHTTP11Required) + 1)))
}

func (d dice) goAway() Answer {
	code := pick(d, http2.ErrCodeNo, http2.ErrCodeEnhanceYourCalm, http2.ErrCodeInternal)
	return pick(d, GoAway(code), GoAwayBelow(code))
}

func (d dice) slow() Plan {
	delay := d.upTo(d.chances.MaxStall)
	return pick(d, Pass().Delayed(delay), Plan{Answer: Upstream().Delayed(delay)})
}

func (d dice) dropMetadata() Plan {
	if len(d.chances.MetadataKeys) == 0 {
		return Pass()
	}
	return Pass().WithoutMetadata(pick(d, d.chances.MetadataKeys...))
}

func (d dice) dropTrailers() Answer {
	answers := []Answer{Upstream().DropAllTrailers(), Upstream().EndWithoutTrailers()}
	for _, key := range d.chances.TrailerKeys {
		answers = append(answers, Upstream().DropTrailers(key))
	}
	return pick(d, answers...)
}

func (d dice) place() Place {
	return pick(d, d.chances.Places...)
}

// upTo returns a time of more than 0.
func (d dice) upTo(bound time.Duration) time.Duration {
	return 1 + time.Duration(d.Int64N(int64(bound)))
}

func pick[T any](d dice, choices ...T) T { return choices[d.IntN(len(choices))] }
