package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

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
		Long: `List the saga definitions that the orchestrator serves, as their contracts say, by server reflection.
KIND is the kind of the command that a saga is to its parent. RETENTION is how long a saga is kept after its end. It is
--retention if the orchestrator's flag says. A saga that a parent may compensate is kept as long as its parent.`,
		Args: exact(),
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
	Kind           string          `json:"kind,omitempty"`
	Deadline       json.RawMessage `json:"deadline,omitempty"`
	Retention      json.RawMessage `json:"retention,omitempty"`
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
			Kind:        render.KindName(definition.Kind),
			Labels:      schema.LabelFields(input),
		}
		var err error
		if out.Deadline, err = durationJSON(definition.Deadline); err != nil {
			return fmt.Errorf("converting the deadline of %s to JSON: %w", definition.Name, err)
		}
		if out.Retention, err = durationJSON(definition.Retention); err != nil {
			return fmt.Errorf("converting the retention of %s to JSON: %w", definition.Name, err)
		}
		if field := schema.RequestIDField(input); field != nil {
			out.RequestIDField = string(field.Name())
		}
		writeJSON(a.Stdout, out)
	}
	return nil
}

// durationJSON returns a duration as protobuf's JSON has it, or nil for 0.
func durationJSON(d time.Duration) (json.RawMessage, error) {
	if d <= 0 {
		return nil, nil
	}
	return protojson.Marshal(durationpb.New(d))
}
