package commandstream

import (
	"runtime"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// maxGather is how often the sender lets other goroutines run to add to a batch. It stops earlier when none did.
const maxGather = 8

// batch is what the sender has taken.
type batch struct {
	commands  []queued
	cancelled []uint64

	// message and spare are reused, since gRPC has serialized a message when it is sent.
	message treatyv1.StreamCommandsRequest
	spare   []*treatyv1.StreamedCommand
}

// send sends what is queued until the stream ends. It closes this side when no more commands come and all were
// answered, since until then one may have to be cancelled.
func (s *Stream) send() {
	b := new(batch)
	for range s.wake {
		s.gather()
		more := s.take(b)
		for len(b.commands) > 0 || len(b.cancelled) > 0 {
			if err := s.stream.Send(b.fill()); err != nil {
				return // the receiver learns why
			}
		}
		if !more {
			_ = s.stream.CloseSend() // the receiver learns of errors
			return
		}
	}
}

// gather lets other goroutines queue their commands, as long as some do. When there is only one, it costs next to
// nothing.
func (s *Stream) gather() {
	before := 0
	for range maxGather {
		s.mu.Lock()
		n := len(s.queued)
		s.mu.Unlock()
		if n <= before {
			return
		}
		before = n
		runtime.Gosched()
	}
}

// take moves what is queued to a batch. From then on, it counts as sent. It returns false if no more will be sent.
func (s *Stream) take(b *batch) (more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b.commands = b.commands[:0]
	for _, c := range s.queued {
		if !c.withdrawn {
			c.sent = true
			b.commands = append(b.commands, c.queued)
		}
	}
	clear(s.queued)
	s.queued = s.queued[:0]
	b.cancelled = append(b.cancelled[:0], s.cancelled...)
	s.cancelled = s.cancelled[:0]
	return !s.closing || len(s.waiting) > 0
}

// fill returns the next message of a batch and removes what is in it.
func (b *batch) fill() *treatyv1.StreamCommandsRequest {
	m := &b.message
	m.Commands, m.Cancelled = m.Commands[:0], b.cancelled
	b.cancelled = nil
	now := time.Now()
	n, size := 0, 0
	for i := range b.commands {
		size += b.commands[i].command.size()
		if n > 0 && size > maxBatchBytes {
			break
		}
		if n == len(b.spare) {
			b.spare = append(b.spare, new(treatyv1.StreamedCommand))
		}
		fill(b.spare[n], &b.commands[i], now)
		m.Commands = append(m.Commands, b.spare[n])
		n++
	}
	rest := copy(b.commands, b.commands[n:])
	clear(b.commands[rest:])
	b.commands = b.commands[:rest]
	return m
}

// fill writes a command into a message.
func fill(m *treatyv1.StreamedCommand, c *queued, now time.Time) {
	command := &c.command
	m.Number = c.number
	m.Method = command.Method
	m.CommandId = command.ID
	m.Direction = command.Direction
	m.Attempt = int32(command.Attempt)
	m.SagaStartMicros = 0
	if !command.SagaStart.IsZero() {
		m.SagaStartMicros = command.SagaStart.UnixMicro()
	}
	m.RequestDigest = command.RequestDigest
	m.Scope, m.Epoch = command.Scope, command.Epoch
	m.TimeoutMicros = max(c.deadline.Sub(now).Microseconds(), 1)
	m.Traceparent, m.Tracestate = command.Traceparent, command.Tracestate
	m.Request = command.Request
}

// statusOf returns the status of a failure.
func statusOf(failure *treatyv1.Failure) *status.Status {
	return status.FromProto(&spb.Status{
		Code: failure.GetCode(), Message: failure.GetMessage(), Details: failure.GetDetails(),
	})
}
