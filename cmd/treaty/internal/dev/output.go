package dev

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	"github.com/treatyhq/treaty/internal/progress"
)

const (
	// self is the name before this program's own lines.
	self = "treaty"

	// maxLine bounds a line of output, in bytes. A longer one is cut.
	maxLine = 4096

	// tailLines is how many lines are kept to show them again.
	tailLines = 10
)

// colors are the ANSI colors of the names.
var colors = []string{"36", "33", "35", "32", "34", "96", "93", "95", "92", "94"}

// Output writes whole lines with a name before each. Its methods may be called concurrently.
type Output struct {
	mu    sync.Mutex
	w     io.Writer
	width int
	color map[string]string // by name; empty: no colors
	end   string            // of a line

	columns int      // of the terminal on which a line is rewritten; 0: there is none
	doing   []*doing // what takes long
	drawn   bool     // the line stands
}

// doing is something that takes long.
type doing struct{ what, elapsed string }

// newOutput returns an output for processes. With an empty palette, it has no colors.
func newOutput(w io.Writer, processes []Process, palette []string) *Output {
	o := &Output{w: w, width: len(self), color: make(map[string]string), end: "\n"}
	for i, p := range processes {
		o.width = max(o.width, len(p.Name))
		if len(palette) > 0 {
			o.color[p.Name] = palette[i%len(palette)]
		}
	}
	if len(palette) > 0 {
		o.color[self] = "1"
	}
	return o
}

// rewrite says that w is a terminal in raw mode.
func (o *Output) rewrite(columns int) { o.columns, o.end = max(columns, 20), "\r\n" }

// progress says what is being done once it takes longer than a second, until done is called: in lines, or in the one
// line that is rewritten.
func (o *Output) progress(what string) (done func()) {
	if o.columns == 0 {
		return progress.Watch(func(elapsed time.Duration) { o.Say("%s: %s", what, elapsed) })
	}
	d := &doing{what: what}
	stop := progress.WatchEvery(time.Second, func(elapsed time.Duration) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if d.elapsed == "" {
			o.doing = append(o.doing, d)
		}
		d.elapsed = elapsed.String()
		o.erase()
		o.draw()
	})
	return func() {
		stop()
		o.mu.Lock()
		defer o.mu.Unlock()
		o.doing = slices.DeleteFunc(o.doing, func(other *doing) bool { return other == d })
		o.erase()
		o.draw()
	}
}

// draw writes the line that is rewritten, if anything takes long.
func (o *Output) draw() {
	var all []string
	for _, d := range o.doing {
		all = append(all, d.what+": "+d.elapsed)
	}
	if len(all) == 0 {
		return
	}
	text := []rune(strings.Join(all, "; "))
	if len(text) >= o.columns { // or it wraps
		text = append(text[:o.columns-2], '…')
	}
	_, _ = io.WriteString(o.w, string(text))
	o.drawn = true
}

// erase removes the line that is rewritten.
func (o *Output) erase() {
	if o.drawn {
		_, _ = io.WriteString(o.w, "\r\x1b[K")
		o.drawn = false
	}
}

// Say writes a line of this program.
func (o *Output) Say(format string, args ...any) { o.Text(fmt.Sprintf(format, args...)) }

// Text writes the lines of a text, which may have colors, without a line in between.
func (o *Output) Text(text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.erase()
	for line := range strings.Lines(text) {
		o.line(self, strings.TrimRight(line, "\n"))
	}
	o.draw()
}

func (o *Output) line(name, text string) {
	prefix := fmt.Sprintf("%-*s |", o.width, name)
	if color := o.color[name]; color != "" {
		prefix = "\x1b[" + color + "m" + prefix + "\x1b[0m"
	}
	_, _ = io.WriteString(o.w, strings.TrimRight(prefix+" "+text, " ")+o.end)
}

// lines is what one run of a process writes.
type lines struct {
	output *Output
	name   string

	mu   sync.Mutex
	part []byte
	cut  bool // the rest of the line is dropped
	tail []string
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range p {
		switch {
		case b == '\n':
			l.end()
		case len(l.part) < maxLine:
			l.part = append(l.part, b)
		default:
			l.cut = true
		}
	}
	return len(p), nil
}

// close writes the last line if it has no end.
func (l *lines) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.part) > 0 {
		l.end()
	}
}

func (l *lines) end() {
	text := strings.TrimRight(string(l.part), "\r")
	text = render.Clean(strings.ReplaceAll(text, "\t", "    "))
	if l.cut {
		text += "…"
	}
	l.part, l.cut = l.part[:0], false
	if l.tail = append(l.tail, text); len(l.tail) > tailLines {
		l.tail = l.tail[1:]
	}
	l.output.mu.Lock()
	defer l.output.mu.Unlock()
	l.output.erase()
	l.output.line(l.name, text)
	l.output.draw()
}

func (l *lines) last() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.tail...)
}
