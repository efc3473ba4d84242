package render

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// style is the look of a piece of text if colors are on.
type style string

// The styles, as the parameters of an ANSI "select graphic rendition" sequence.
const (
	plain   style = ""
	bold    style = "1"
	dim     style = "2"
	red     style = "31"
	redBold style = "1;31"
	green   style = "32"
	yellow  style = "33"
	magenta style = "35"
	cyan    style = "36"
)

// span is a piece of text in one style.
type span struct {
	text  string
	style style
}

// line is one line of output without its newline.
type line []span

// text makes a line of one span.
func text(style style, format string, args ...any) line {
	if len(args) > 0 {
		format = fmt.Sprintf(format, args...)
	}
	return line{{text: format, style: style}}
}

// width returns the number of columns of the line.
func (l line) width() int {
	total := 0
	for _, s := range l {
		total += utf8.RuneCountInString(Clean(s.text))
	}
	return total
}

// cut returns the line shortened to a width; 0 means no limit.
func (l line) cut(width int) line {
	if width <= 0 || l.width() <= width {
		return l
	}
	room := width - 1
	var out line
	for _, s := range l {
		runes := []rune(Clean(s.text))
		if len(runes) > room {
			return append(out, span{string(runes[:room]), s.style}, span{"…", s.style})
		}
		room -= len(runes)
		out = append(out, s)
	}
	return out
}

// render returns lines as text, in color if the options say so.
func (v *View) render(lines []line) string {
	var out strings.Builder
	for _, l := range lines {
		for _, s := range l.trimmed() {
			v.span(&out, s)
		}
		out.WriteByte('\n')
	}
	return out.String()
}

func (v *View) span(out *strings.Builder, s span) {
	body := Clean(s.text)
	if !v.options.Color || s.style == plain || strings.TrimSpace(body) == "" {
		out.WriteString(body)
		return
	}
	out.WriteString("\x1b[" + string(s.style) + "m" + body + "\x1b[0m")
}

// trimmed returns the line without trailing spaces.
func (l line) trimmed() line {
	for n := len(l); n > 0; n-- {
		body := strings.TrimRight(l[n-1].text, " ")
		if body != "" {
			out := append(line(nil), l[:n]...)
			out[n-1].text = body
			return out
		}
	}
	return nil
}

// Clean makes text from outside safe to show. It escapes control characters, which could move the cursor or hide text.
func Clean(s string) string {
	if !strings.ContainsFunc(s, isUnsafe) && utf8.ValidString(s) {
		return s
	}
	var out strings.Builder
	for _, r := range s {
		if !isUnsafe(r) {
			out.WriteRune(r)
			continue
		}
		switch r {
		case '\n':
			out.WriteString(`\n`)
		case '\t':
			out.WriteString(`\t`)
		case '\r':
			out.WriteString(`\r`)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out.String()
}

func isUnsafe(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == utf8.RuneError
}
