package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// style is how text looks in a terminal, as the parameter of an ANSI "select graphic rendition" sequence.
type style string

// The styles.
const (
	plain   style = ""
	bold    style = "1"
	dim     style = "2"
	red     style = "31"
	green   style = "32"
	yellow  style = "33"
	magenta style = "35"
	cyan    style = "36"
)

// plainWidth is how wide lines are where there is no terminal.
const plainWidth = 100

// printer writes for people: in colour and with bars in a terminal, plain elsewhere. Failures to write are of no
// interest here.
type printer struct {
	out    io.Writer
	colour bool
	bars   bool
	width  int
}

// newPrinter looks at where the output goes. NO_COLOR is honoured.
func newPrinter(out io.Writer) *printer {
	p := &printer{out: out, width: plainWidth}
	file, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) || os.Getenv("TERM") == "dumb" {
		return p
	}
	p.colour, p.bars = os.Getenv("NO_COLOR") == "", true
	if width, _, err := term.GetSize(int(file.Fd())); err == nil && width > 0 {
		p.width = width
	}
	return p
}

// styled returns text that looks as wanted.
func (p *printer) styled(s style, text string) string {
	if !p.colour || s == plain || text == "" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

func (p *printer) line(s style, text string) {
	_, _ = fmt.Fprintln(p.out, p.styled(s, text))
}

// title is a line that stands out.
func (p *printer) title(text string) {
	p.line(plain, "")
	p.line(bold, text)
}

// para is a line with space around it.
func (p *printer) para(text string) {
	p.line(plain, "")
	p.line(plain, text)
}

// cell is a piece of a table's row.
type cell struct {
	text  string
	style style
}

// table writes rows with aligned columns, as many as the first row has. The last cell of a shorter row runs over the
// columns that it lacks.
func (p *printer) table(indent string, rows [][]cell) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, c := range row {
			if i == len(row)-1 && len(row) < len(widths) {
				break
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	for _, row := range rows {
		var b strings.Builder
		b.WriteString(indent)
		for i, c := range row {
			b.WriteString(p.styled(c.style, c.text))
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text)+2))
			}
		}
		_, _ = fmt.Fprintln(p.out, strings.TrimRight(b.String(), " "))
	}
}

// prefixWriter puts a name before each line.
type prefixWriter struct {
	prefix string
	out    io.Writer
	rest   []byte
}

// Write passes whole lines on.
func (w *prefixWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		i := bytes.IndexByte(w.rest, '\n')
		if i < 0 {
			return len(p), nil
		}
		if _, err := fmt.Fprintf(w.out, "%-12s | %s\n", w.prefix, w.rest[:i]); err != nil {
			return len(p), err
		}
		w.rest = w.rest[i+1:]
	}
}
