package machine

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/coroutine"
)

// suspendForPanic suspends a saga whose code panicked.
func (m *Machine) suspendForPanic(panicked string) {
	m.suspend(&treatyv1.SagaSuspended{
		Reason: treatyv1.SuspensionReason_SUSPENSION_REASON_PANIC,
		Message: fmt.Sprintf("the saga's code panicked %s: %s; fix the code and resume%s", m.lastStep(), panicked,
			m.orCancel()),
	})
}

// stuck is what is known about code that was left behind.
type stuck struct {
	place coroutine.Place
	after string // how far the code got

	// loops means that no code was running at that moment. It opens scopes or branches all the time.
	loops bool
}

// suspendBlocked suspends a saga whose code was left behind.
func (m *Machine) suspendBlocked(s *stuck) {
	m.suspend(&treatyv1.SagaSuspended{
		Reason: treatyv1.SuspensionReason_SUSPENSION_REASON_STUCK,
		Message: fmt.Sprintf("the saga's code blocked %s %s: it didn't send a command, wait or return in time; "+
			"fix the code and resume%s", s.after, s.describe(), m.orCancel()),
		Found: s.stack(),
	})
}

// describe says where the code stands: in the innermost line of saga code.
func (s *stuck) describe() string {
	if s.loops {
		return "in a loop that opens scopes or branches"
	}
	frames := s.place.Frames
	for len(frames) > 0 && isInternal(frames[len(frames)-1]) {
		frames = frames[:len(frames)-1] // what called the code
	}
	for i, frame := range slices.Backward(frames) {
		if isInternal(frame) {
			frames = frames[i+1:] // what the code called
			break
		}
	}
	for _, frame := range frames {
		if !isLibrary(frame) {
			return fmt.Sprintf("at %s:%d (%s)", frame.File, frame.Line, s.place.State)
		}
	}
	return "at an unknown place"
}

// stack returns the functions that the code is in, one on each line, the innermost first.
func (s *stuck) stack() string {
	var lines strings.Builder
	for _, frame := range s.place.Frames {
		function := frame.Function[strings.LastIndexByte(frame.Function, '/')+1:]
		fmt.Fprintf(&lines, "%s (%s:%d)\n", function, frame.File, frame.Line)
	}
	return strings.TrimSuffix(lines.String(), "\n")
}

// isLibrary reports whether a function belongs to those of the standard library that code usually blocks in.
func isLibrary(frame runtime.Frame) bool {
	for _, prefix := range []string{"internal/", "sync.", "sync/", "time.", "syscall.", "os.", "io.", "net.", "net/",
		"bufio.", "context.", "crypto/", "database/sql.", "iter."} {
		if strings.HasPrefix(frame.Function, prefix) {
			return true
		}
	}
	return false
}

// misused suspends a saga whose code used its Context on another goroutine.
func (m *Machine) misused(in Misused) {
	if m.saga.Final() || m.saga.CompensationDecided != nil || m.saga.Suspension != nil {
		return
	}
	if m.program != nil {
		m.program.misuse(in.Message)
	}
	m.suspendForPanic(in.Message)
}
