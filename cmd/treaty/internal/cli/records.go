package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/treatyhq/treaty/cmd/treaty/internal/connection"
	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	"github.com/treatyhq/treaty/cmd/treaty/internal/schema"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// recordsPage is how many records are asked for at a time.
const recordsPage = 500

func (a *app) recordsCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "records NAME",
		Short:             "Show a saga's journal, oldest first",
		Long:              "Show a saga's journal, oldest first: what happened, and what it was decided by.",
		Args:              exact("NAME"),
		ValidArgsFunction: a.completeSaga(""),
		RunE: a.run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			name, err := parseName(args[0])
			if err != nil {
				return err
			}
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			return a.records(ctx, c, name)
		}),
	}
}

func (a *app) records(ctx context.Context, c *connection.Client, name string) error {
	types := schema.NewJournalTypes(c.Schema)
	encoder := types.Encoder()
	journal := render.NewJournal(a.view(c, render.SagaPayloads), name)
	request := &treatyv1.ListSagaRecordsRequest{Parent: name, PageSize: recordsPage}
	for {
		page, err := a.recordsPage(ctx, c, request)
		if err != nil {
			return a.explain(err, problem.Subject{Doing: "reading the journal", Saga: name})
		}
		for _, record := range page.GetRecords() {
			types.Next(record.GetRecord())
			if a.flags.json {
				_, _ = a.Stdout.Write(append(encoder.Encode(record), '\n'))
				continue
			}
			journal.Add(record, types.Payload())
		}
		request.PageToken = page.GetNextPageToken()
		if request.PageToken == "" {
			break
		}
	}
	if !a.flags.json {
		a.print(journal.String())
	}
	return nil
}

func (a *app) recordsPage(ctx context.Context, c *connection.Client, request *treatyv1.ListSagaRecordsRequest) (*treatyv1.ListSagaRecordsResponse, error) {
	ctx, cancel := a.unary(ctx)
	defer cancel()
	return c.Sagas.ListSagaRecords(ctx, request)
}
