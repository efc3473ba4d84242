package coroutine

import (
	"bytes"
	"fmt"
	"runtime"
	"strconv"
	"strings"
)

const (
	// maxDump limits how much of the stacks of all goroutines is read.
	maxDump = 64 << 20

	// maxFrames limits the length of a place.
	maxFrames = 24
)

// Place is where code stands.
type Place struct {
	// State is what the goroutine does, e.g. "chan receive" or "running". It is empty if that isn't known.
	State string

	// Frames are the functions that the goroutine is in, the innermost first, without those of the runtime. They have
	// a function, a line, and the last part of a file's name.
	Frames []runtime.Frame
}

// String returns the place in one line.
func (p Place) String() string {
	var b strings.Builder
	b.WriteString(p.State)
	for i, frame := range p.Frames {
		separator := " in "
		if i == 0 {
			separator = ": "
		}
		function := frame.Function[strings.LastIndexByte(frame.Function, '/')+1:]
		fmt.Fprintf(&b, "%s%s (%s:%d)", separator, function, frame.File, frame.Line)
	}
	return b.String()
}

// Stacks is the stacks of all goroutines at one moment.
type Stacks struct{ text []byte }

// ReadStacks reads the stacks of all goroutines. It stops the process for that time: some milliseconds for thousands of
// goroutines.
func ReadStacks() *Stacks {
	for size := 64 << 10; ; size *= 4 {
		text := make([]byte, size)
		if n := runtime.Stack(text, true); n < size || size >= maxDump {
			return &Stacks{text[:n]}
		}
	}
}

// Place returns where the code of a coroutine stands. It is empty if that isn't known.
func (s *Stacks) Place(c *Coroutine) Place {
	frame := []byte(c.frame())
	for rest := s.text; len(rest) > 0; {
		stack, after, _ := bytes.Cut(rest, []byte("\n\n"))
		rest = after
		code, _, found := bytes.Cut(stack, frame)
		if !found {
			continue
		}
		return placeOf(string(code))
	}
	return Place{}
}

// placeOf reads a printed stack: its header, and then two lines for each frame.
func placeOf(stack string) Place {
	header, frames, _ := strings.Cut(stack, "\n")
	_, state, _ := strings.Cut(header, "[")
	state, _, _ = strings.Cut(state, "]")
	state, _, _ = strings.Cut(state, ",") // how long it waits
	place := Place{State: strings.TrimSpace(strings.TrimSuffix(state, "(durable)"))}
	lines := strings.Split(frames, "\n")
	for i := 0; i+1 < len(lines) && len(place.Frames) < maxFrames; i += 2 {
		function, file := lines[i], lines[i+1]
		if at := strings.LastIndexByte(function, '('); at > 0 {
			function = function[:at] // without its arguments
		}
		if strings.HasPrefix(function, "runtime.") {
			continue
		}
		file, _, _ = strings.Cut(strings.TrimSpace(file), " ")
		file, line, _ := strings.Cut(file[strings.LastIndexByte(file, '/')+1:], ":")
		number, _ := strconv.Atoi(line)
		place.Frames = append(place.Frames, runtime.Frame{Function: function, File: file, Line: number})
	}
	return place
}
