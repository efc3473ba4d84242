package progress

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// columns is how wide a line that is rewritten may be. A longer one would wrap, and couldn't be rewritten.
const columns = 79

// LineParams say how a line is shown.
type LineParams struct {
	// Out is where the line is written to: standard error, usually.
	Out io.Writer

	// InPlace says that Out is a terminal. The line is then rewritten every second and erased at the end. Otherwise,
	// a new line is written after 1, 4, 10, 22, 46 and 94 seconds, and then every minute.
	InPlace bool

	// Doing returns what is being done, and how far it is, without the time; "" shows nothing. It is called from
	// another goroutine.
	Doing func() string

	// Patience is how long nothing is shown. All other times are multiples of it. Default First.
	Patience time.Duration
}

// Line is a line about something that still runs. Its methods may be called concurrently.
type Line struct {
	params LineParams
	stop   func()

	mu    sync.Mutex
	drawn int  // the columns of the line that stands on the terminal
	begun bool // the last text that was written over the line has no end
}

// Start shows a line until Stop is called.
func Start(params LineParams) *Line {
	first := cmp.Or(params.Patience, First)
	l := &Line{params: params}
	next := func(wait time.Duration) time.Duration { return min(max(2*wait, 3*first), 60*first) }
	if params.InPlace {
		next = func(time.Duration) time.Duration { return first }
	}
	l.stop = sync.OnceFunc(watch(first, next, l.show))
	return l
}

// Stop ends the line, and erases it if it stands on a terminal. Calling it again does nothing.
func (l *Line) Stop() {
	l.stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.erase()
}

// Over returns a writer that erases the line from a terminal before it writes to w, which may be the same terminal. The
// line comes back when it is due.
func (l *Line) Over(w io.Writer) io.Writer { return over{l, w} }

type over struct {
	line *Line
	w    io.Writer
}

// Write writes to the writer below.
func (o over) Write(p []byte) (int, error) {
	o.line.mu.Lock()
	defer o.line.mu.Unlock()
	o.line.erase()
	if len(p) > 0 {
		o.line.begun = p[len(p)-1] != '\n'
	}
	return o.w.Write(p)
}

func (l *Line) show(elapsed time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := l.params.Doing()
	if text == "" {
		l.erase()
		return
	}
	passed := ": " + elapsed.String()
	if !l.params.InPlace {
		_, _ = fmt.Fprintln(l.params.Out, text+passed) // nobody misses a line about something that goes on
		return
	}
	if l.begun {
		return
	}
	if room := columns - len(passed); utf8.RuneCountInString(text) > room {
		text = string([]rune(text)[:room-1]) + "…"
	}
	text += passed
	width := utf8.RuneCountInString(text)
	_, _ = io.WriteString(l.params.Out, "\r"+text+strings.Repeat(" ", max(0, l.drawn-width)))
	l.drawn = width
}

// erase removes the line from a terminal.
func (l *Line) erase() {
	if l.drawn > 0 {
		_, _ = io.WriteString(l.params.Out, "\r"+strings.Repeat(" ", l.drawn)+"\r")
		l.drawn = 0
	}
}

// IsTerminal reports whether a writer is a terminal that a line can be rewritten on.
func IsTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// Bytes returns a number of bytes for people, such as "12.3 MB".
func Bytes(count int64) string {
	const unit = 1000
	switch {
	case count < unit:
		return fmt.Sprintf("%d B", count)
	case count < unit*unit:
		return fmt.Sprintf("%.1f kB", float64(count)/unit)
	case count < unit*unit*unit:
		return fmt.Sprintf("%.1f MB", float64(count)/unit/unit)
	default:
		return fmt.Sprintf("%.1f GB", float64(count)/unit/unit/unit)
	}
}
