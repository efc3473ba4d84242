package cli

import (
	"bytes"
	"context"
	"errors"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"
)

func (a *app) definitionsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "definitions",
		Short: "List the saga definitions that are served",
		Long:  "List the saga definitions that the orchestrator serves, as its server reflection tells them.",
		Args:  exact(),
		RunE: a.run(func(ctx context.Context, _ *cobra.Command, _ []string) error {
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			served, err := c.schema.definitions()
			if err != nil {
				return a.explainReflection(err)
			}
			if a.flags.json {
				for _, definition := range served {
					_, _ = a.Stdout.Write(definition.json())
				}
				return nil
			}
			a.printDefinitions(served)
			return nil
		}),
	}
}

func (a *app) printDefinitions(served []definition) {
	p := a.printer()
	if len(served) == 0 {
		if p.terminal {
			p.print(text(dim, "No saga definitions."))
		}
		return
	}
	t := newTable("DEFINITION", "REQUEST", "REPLY", "DEADLINE")
	for _, definition := range served {
		deadline := ""
		if definition.deadline > 0 {
			deadline = formatDuration(definition.deadline)
		}
		t.add(row{cells: []span{
			{definition.name, bold},
			{string(definition.method.Input().FullName()), plain},
			{string(definition.method.Output().FullName()), plain},
			{deadline, plain},
		}})
	}
	p.print(t.lines()...)
}

// json returns the definition as a line of JSON.
func (d definition) json() []byte {
	var out bytes.Buffer
	out.WriteString(`{"definition":`)
	writeString(&out, d.name)
	out.WriteString(`,"requestType":`)
	writeString(&out, string(d.method.Input().FullName()))
	out.WriteString(`,"replyType":`)
	writeString(&out, string(d.method.Output().FullName()))
	if d.deadline > 0 {
		out.WriteString(`,"deadline":`)
		// A duration that was read from a descriptor is in range; one that isn't is left empty.
		raw, err := protojson.Marshal(durationpb.New(d.deadline))
		if err != nil {
			raw = []byte(`""`)
		}
		out.Write(raw)
	}
	if field := requestIDField(d.method.Input()); field != nil {
		out.WriteString(`,"requestIdField":`)
		writeString(&out, string(field.Name()))
	}
	writeStrings(&out, "labels", labelFields(d.method.Input()))
	out.WriteString("}\n")
	return out.Bytes()
}

// rootCause returns the innermost error.
func rootCause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
