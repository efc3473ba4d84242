package conformance

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/treatyhq/treaty/cmd/treaty/internal/schema"
	"github.com/treatyhq/treaty/internal/conform"
)

// Params say what to check and where.
type Params struct {
	File    *File
	Address string
	Conn    grpc.ClientConnInterface
	Schema  *schema.Schema

	// Timeout is how long one attempt may take.
	Timeout time.Duration

	// Say receives each part of the report's text as soon as it is known.
	Say func(text string)
}

// Run checks the participant. The error says why nothing could be checked, or why a check couldn't be made; ctx's error
// is among them. What was checked by then is in the report.
func Run(ctx context.Context, p Params) (*Report, error) {
	cases, err := p.File.cases(p.Conn, p.Schema, p.Timeout)
	if err != nil {
		return nil, err
	}
	suite := conform.Suite{Conn: p.Conn, Timeout: p.Timeout}
	if len(p.File.Restart) > 0 {
		suite.Restart = func(ctx context.Context) (grpc.ClientConnInterface, error) {
			return nil, p.File.restart(ctx)
		}
	}
	checker, err := conform.Start(ctx, suite)
	if err != nil {
		return nil, err
	}
	report := &Report{Address: p.Address, Saga: checker.Saga()}
	var commands []*conform.Command
	for _, given := range cases {
		command, err := checker.Command(given)
		if err != nil {
			return nil, err
		}
		commands = append(commands, command)
	}
	check := func(section Section, command *conform.Command, guarantees []conform.Guarantee) error {
		p.Say(section.title())
		for _, g := range guarantees {
			line := lineOf(command.Check(ctx, g))
			if ctx.Err() != nil {
				return fmt.Errorf("checking %s of %s: %w", g.ID, section.Name, ctx.Err())
			}
			section.Lines = append(section.Lines, line)
			p.Say(line.text())
		}
		p.Say("\n")
		report.Sections = append(report.Sections, section)
		return nil
	}
	for _, c := range commands {
		section := Section{Name: c.Name(), Kind: c.Kind(), Counted: c.Counted()}
		if err := check(section, c, c.Guarantees()); err != nil {
			report.Left = checker.Left()
			return report, err
		}
	}
	err = check(Section{Name: "participant"}, commands[0], commands[0].ParticipantGuarantees())
	report.Left = checker.Left()
	if err != nil {
		return report, err
	}
	for _, name := range checker.Unchecked(commands, p.Schema) {
		if !slices.Contains(p.File.Except, name) {
			report.Unchecked = append(report.Unchecked, name)
		}
	}
	p.Say(report.summary())
	return report, nil
}
