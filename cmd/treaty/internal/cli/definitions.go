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
		Short: "List the saga definitions",
		Long:  "List the saga definitions that the orchestrator serves. They are read by server reflection.",
		Args:  exact(),
		RunE: a.run(func(ctx context.Context, _ *cobra.Command, _ []string) error {
			if err := a.connect(ctx); err != nil {
				return err
			}
			served, err := a.client.Schema.Definitions()
			if err != nil {
				return a.explainer().ExplainReflection(err)
			}
			if len(served) == 0 {
				_, _ = fmt.Fprintln(a.Stderr, a.noDefinitions())
				return nil
			}
			if a.flags.json {
				return a.printDefinitionsJSON(served)
			}
			a.print(a.view(render.SagaPayloads).Definitions(served))
			return nil
		}),
	}
}

// noDefinitions says that the orchestrator serves no definitions, and why that may be.
func (a *app) noDefinitions() string {
	return a.flags.connection.Address + " serves no saga definitions. " +
		"Register them in the orchestrator's program, or set another --address."
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

func (a *app) printDefinitionsJSON(served []schema.Definition) error {
	for _, definition := range served {
		input := definition.Method.Input()
		out := definitionJSON{
			Definition:  definition.Name,
			RequestType: string(input.FullName()),
			ReplyType:   string(definition.Method.Output().FullName()),
			Labels:      schema.LabelFields(input),
		}
		if definition.Deadline > 0 {
			deadline, err := protojson.Marshal(durationpb.New(definition.Deadline))
			if err != nil {
				return fmt.Errorf("converting the deadline of %s to JSON: %w", definition.Name, err)
			}
			out.Deadline = deadline
		}
		if field := schema.RequestIDField(input); field != nil {
			out.RequestIDField = string(field.Name())
		}
		writeJSON(a.Stdout, out)
	}
	return nil
}
