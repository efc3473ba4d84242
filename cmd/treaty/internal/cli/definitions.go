package cli

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	"github.com/treatyhq/treaty/cmd/treaty/internal/schema"
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
			served, err := c.Schema.Definitions()
			if err != nil {
				return a.explainer().ExplainReflection(err)
			}
			if a.flags.json {
				for _, definition := range served {
					line, err := newDefinitionJSON(definition)
					if err != nil {
						return err
					}
					writeJSON(a.Stdout, line)
				}
				return nil
			}
			a.print(a.view(c, render.SagaPayloads).Definitions(served))
			return nil
		}),
	}
}

// definitionJSON is a definition in the output of --json.
type definitionJSON struct {
	Definition     string          `json:"definition"`
	RequestType    string          `json:"requestType"`
	ReplyType      string          `json:"replyType"`
	Deadline       json.RawMessage `json:"deadline,omitempty"`
	RequestIDField string          `json:"requestIdField,omitempty"`
	Labels         []string        `json:"labels,omitempty"`
}

func newDefinitionJSON(d schema.Definition) (definitionJSON, error) {
	input := d.Method.Input()
	out := definitionJSON{
		Definition:  d.Name,
		RequestType: string(input.FullName()),
		ReplyType:   string(d.Method.Output().FullName()),
		Labels:      schema.LabelFields(input),
	}
	if d.Deadline > 0 {
		deadline, err := protojson.Marshal(durationpb.New(d.Deadline))
		if err != nil {
			return out, fmt.Errorf("the deadline of %s: %w", d.Name, err)
		}
		out.Deadline = deadline
	}
	if field := schema.RequestIDField(input); field != nil {
		out.RequestIDField = string(field.Name())
	}
	return out, nil
}
