package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/treatyhq/treaty/cmd/treaty/internal/connection"
	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	"github.com/treatyhq/treaty/cmd/treaty/internal/schema"
)

// exitError ends the run with an exit code and no message.
type exitError int

// Error names the exit code.
func (e exitError) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// explainer returns an explainer for the errors of calls to the orchestrator.
func (a *app) explainer() problem.Explainer {
	return problem.Explainer{
		Address:          a.flags.connection.Address,
		Timeout:          a.flags.connection.Timeout,
		CertFile:         a.flags.connection.CertFile,
		MaxReplyBytes:    connection.MaxMessageBytes,
		CertificateAsked: a.client.CertificateAsked(),
	}
}

// explain turns the error of a call into a problem.
func (a *app) explain(err error, about problem.Subject) error {
	return a.explainer().Explain(err, about)
}

// report prints the error of a run, if any, and returns the exit code.
func (a *app) report(ctx context.Context, err error) int {
	if err == nil {
		return problem.ExitOK
	}
	if code, ok := errors.AsType[exitError](err); ok {
		return int(code)
	}
	if ctx.Err() != nil {
		return problem.ExitInterrupted
	}
	var p *problem.Error
	if !errors.As(err, &p) {
		// Any other error is one of cobra's own, about the command line.
		p = problem.Usage(err.Error(), "See treaty --help.")
	}
	if a.flags.json {
		a.reportJSON(p)
		return p.Exit
	}
	var out strings.Builder
	out.WriteString("treaty: " + cleanLines(p.Message) + "\n")
	for _, note := range p.Notes {
		out.WriteString("  " + cleanLines(note) + "\n")
	}
	for _, hint := range p.Hints {
		out.WriteString(cleanLines(hint) + "\n")
	}
	_, _ = io.WriteString(a.Stderr, out.String())
	return p.Exit
}

// problemJSON is a problem in the output of --json.
type problemJSON struct {
	Code    string            `json:"code,omitempty"`
	Message string            `json:"message"`
	Notes   []string          `json:"notes,omitempty"`
	Hints   []string          `json:"hints,omitempty"`
	Details []json.RawMessage `json:"details,omitempty"`
}

func (a *app) reportJSON(p *problem.Error) {
	writeJSON(a.Stderr, map[string]problemJSON{"error": a.problemJSON(p)})
}

func (a *app) problemJSON(p *problem.Error) problemJSON {
	out := problemJSON{Message: p.Message, Notes: p.Notes, Hints: p.Hints}
	if p.Code != codes.OK {
		out.Code = render.CodeName(p.Code)
	}
	if a.client != nil {
		encoder := schema.NewEncoder(a.client.Schema)
		for _, detail := range p.Details {
			out.Details = append(out.Details, encoder.Encode(detail))
		}
	}
	return out
}

// cleanLines is render.Clean for text with several lines.
func cleanLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = render.Clean(lines[i])
	}
	return strings.Join(lines, "\n  ")
}
