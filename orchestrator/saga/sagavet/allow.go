package sagavet

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/token"
	"strings"

	"golang.org/x/tools/go/analysis"
)

// allow is the comment that silences a line. Its reason follows.
const allow = "//treaty:allow"

// readAllowed reads which lines of a file are silenced: those with a comment, and those below a comment that is alone
// on its line.
func (p *code) readAllowed(file *ast.File) {
	name := p.Fset.Position(file.FileStart).Filename
	lines := make(map[int]bool)
	var source [][]byte
	for _, group := range file.Comments {
		for _, comment := range group.List {
			reason, ok := strings.CutPrefix(comment.Text, allow)
			if !ok || strings.TrimSpace(reason) == "" {
				continue
			}
			if source == nil {
				data, err := p.ReadFile(name)
				if err != nil {
					return // nothing is silenced
				}
				source = bytes.Split(data, []byte("\n"))
			}
			line := p.Fset.Position(comment.Pos()).Line
			lines[line] = true
			if line <= len(source) && bytes.HasPrefix(bytes.TrimSpace(source[line-1]), []byte(allow)) {
				lines[p.Fset.Position(group.End()).Line+1] = true
			}
		}
	}
	p.allowed[name] = lines
}

// reportAllowWithoutReason reports comments that silence nothing, because they give no reason.
func (p *code) reportAllowWithoutReason() {
	for _, file := range p.Files {
		if p.isTest(file) {
			continue
		}
		for _, group := range file.Comments {
			for _, comment := range group.List {
				if reason, ok := strings.CutPrefix(comment.Text, allow); ok && strings.TrimSpace(reason) == "" {
					p.report(comment.Pos(), "allow", "%[1]s silences nothing without a reason: write %[1]s REASON",
						allow)
				}
			}
		}
	}
}

func (p *code) isAllowed(pos token.Pos) bool {
	at := p.Fset.Position(pos)
	return p.allowed[at.Filename][at.Line]
}

// report reports a mistake once, unless a comment silences its line.
func (p *code) report(pos token.Pos, id, format string, arguments ...any) {
	if p.isAllowed(pos) || p.seen[finding{pos, id}] {
		return
	}
	p.seen[finding{pos, id}] = true
	p.found = append(p.found, analysis.Diagnostic{
		Pos: pos, Category: id, URL: page, Message: fmt.Sprintf(format, arguments...) + " (" + id + ")",
	})
}
