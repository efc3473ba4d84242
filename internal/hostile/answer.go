package hostile

import (
	"fmt"
	"slices"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

// kind is what an answer consists of.
type kind int

const (
	upstreams kind = iota
	ownStatus
	ownHTTP
	reset
	goAway
	closing
	stall
	halfOpen
)

// Answer is what a client gets. The zero Answer is the upstream's. An Answer is a value: methods return a changed copy.
// A method that makes no sense for an answer changes nothing.
type Answer struct {
	kind kind

	// Of the upstream's answer.
	dropHeaders, dropTrailers []string
	keepStatusOnly            bool
	noTrailers                bool
	noMessage, twoMessages    bool

	// Of an answer of the middle's own.
	code              codes.Code
	message           string
	headers, trailers metadata.MD
	httpStatus        int
	contentType, body string
	errCode           http2.ErrCode
	below             bool
	bound             time.Duration

	// Of every answer.
	until <-chan struct{}
	delay time.Duration
}

// Upstream returns the upstream's answer, for the methods that change it. It is the zero Answer.
func Upstream() Answer { return Answer{} }

// Status returns a gRPC status in the upstream's name. It consists of trailers only, unless the client has got the
// upstream's headers by then or the status has headers of its own. OK comes without a message, which no unary call
// allows.
func Status(code codes.Code, message string) Answer {
	return Answer{kind: ownStatus, code: code, message: message}
}

// HTTP returns an answer that isn't gRPC, such as a proxy's error page. At [AfterHeaders] and [BeforeTrailers], nothing
// of the upstream's answer is passed on.
func HTTP(status int, contentType, body string) Answer {
	return Answer{kind: ownHTTP, httpStatus: status, contentType: contentType, body: body}
}

// Reset returns an RST_STREAM.
func Reset(code http2.ErrCode) Answer { return Answer{kind: reset, errCode: code} }

// GoAway returns a GOAWAY whose last stream is the one of the call. The call goes on, and gets the upstream's answer,
// if it went up. The middle ignores later streams of the connection, as HTTP/2 demands.
func GoAway(code http2.ErrCode) Answer { return Answer{kind: goAway, errCode: code} }

// GoAwayBelow returns a GOAWAY whose last stream is the one before the call's. It claims that the call, and every later
// one on the connection, was never looked at.
func GoAwayBelow(code http2.ErrCode) Answer { return Answer{kind: goAway, errCode: code, below: true} }

// CloseConn closes the client's TCP connection, with everything on it.
func CloseConn() Answer { return Answer{kind: closing} }

// Stall gives the client nothing, until it gives up.
func Stall() Answer { return Answer{kind: stall} }

// HalfOpen passes nothing more on the client's connection, in either direction, and keeps it open.
func HalfOpen() Answer { return Answer{kind: halfOpen} }

// For ends a [Stall] after a time with an RST_STREAM (CANCEL), and [HalfOpen] by closing the connection. 0 is no limit.
func (a Answer) For(bound time.Duration) Answer {
	a.bound = bound
	return a
}

// Delayed delays the answer after its place is reached; the upstream's answer before its first frame is passed on.
func (a Answer) Delayed(delay time.Duration) Answer {
	a.delay = delay
	return a
}

// Held holds the answer back after its place is reached, until release is closed or receives.
func (a Answer) Held(release <-chan struct{}) Answer {
	a.until = release
	return a
}

// WithHeaders gives a [Status] headers, so that it doesn't consist of trailers only.
func (a Answer) WithHeaders(headers metadata.MD) Answer {
	a.headers = metadata.Join(a.headers, headers)
	return a
}

// WithTrailers gives a [Status] trailers, such as marks or "grpc-status-details-bin". Values of keys that end in "-bin"
// are bytes, as in package metadata.
func (a Answer) WithTrailers(trailers metadata.MD) Answer {
	a.trailers = metadata.Join(a.trailers, trailers)
	return a
}

// DropHeaders drops keys from the headers of the upstream's answer.
func (a Answer) DropHeaders(keys ...string) Answer {
	a.dropHeaders = append(slices.Clone(a.dropHeaders), keys...)
	return a
}

// DropTrailers drops keys from the trailers of the upstream's answer. "grpc-status" can be one of them.
func (a Answer) DropTrailers(keys ...string) Answer {
	a.dropTrailers = append(slices.Clone(a.dropTrailers), keys...)
	return a
}

// DropAllTrailers drops all trailers of the upstream's answer except "grpc-status" and "grpc-message".
func (a Answer) DropAllTrailers() Answer {
	a.keepStatusOnly = true
	return a
}

// EndWithoutTrailers ends the upstream's answer before its trailers, as a middle does that knows only HTTP/1.1.
func (a Answer) EndWithoutTrailers() Answer {
	a.noTrailers = true
	return a
}

// NoMessage drops the messages of the upstream's answer.
func (a Answer) NoMessage() Answer {
	a.noMessage = true
	return a
}

// TwoMessages repeats the messages of the upstream's answer, so that a unary call gets two.
func (a Answer) TwoMessages() Answer {
	a.twoMessages = true
	return a
}

// goesOn reports whether the client gets the upstream's answer.
func (a Answer) goesOn() bool { return a.kind == upstreams || a.kind == goAway && !a.below }

// String describes the answer in a few words, without its times.
func (a Answer) String() string {
	switch a.kind {
	case ownStatus:
		return "status " + a.code.String()
	case ownHTTP:
		return fmt.Sprintf("HTTP %d", a.httpStatus)
	case reset:
		return "RST_STREAM " + a.errCode.String()
	case goAway:
		if a.below {
			return "GOAWAY " + a.errCode.String() + " below the call"
		}
		return "GOAWAY " + a.errCode.String()
	case closing:
		return "closed connection"
	case stall:
		return "stall"
	case halfOpen:
		return "half-open connection"
	default:
		return a.describeUpstream()
	}
}

func (a Answer) describeUpstream() string {
	switch {
	case a.noMessage:
		return "upstream's answer without its message"
	case a.twoMessages:
		return "upstream's answer with its message twice"
	case a.noTrailers, a.keepStatusOnly:
		return "upstream's answer without its trailers"
	case len(a.dropTrailers) > 0:
		return "upstream's answer without some trailers"
	case len(a.dropHeaders) > 0:
		return "upstream's answer without some headers"
	case a.until != nil, a.delay > 0:
		return "upstream's answer, late"
	default:
		return "upstream's answer"
	}
}
