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

// style is the look of text in a terminal: the parameter of an ANSI "select graphic rendition" sequence.
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

// plainWidth is the width of lines without a terminal.
const plainWidth = 100

// printer writes text for people: with colors and bars in a terminal, plain elsewhere. It ignores write errors.
type printer struct {
	out    io.Writer
	colour bool
	bars   bool
	width  int
}

// newPrinter returns a printer for an output. It respects NO_COLOR.
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

// styled returns text in a style.
func (p *printer) styled(s style, text string) string {
	if !p.colour || s == plain || text == "" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

func (p *printer) line(s style, text string) {
	_, _ = fmt.Fprintln(p.out, p.styled(s, text))
}

// title prints a line that stands out.
func (p *printer) title(text string) {
	p.line(plain, "")
	p.line(bold, text)
}

// para prints a line after an empty line.
func (p *printer) para(text string) {
	p.line(plain, "")
	p.line(plain, text)
}

// cell is one cell of a table.
type cell struct {
	text  string
	style style
}

// table prints rows with aligned columns, as many as the first row has. The last cell of a shorter row spans the
// missing columns.
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

// prefixWriter prefixes each line with a name.
type prefixWriter struct {
	prefix string
	out    io.Writer
	rest   []byte
}

// Write passes on complete lines.
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
