package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	"github.com/treatyhq/treaty/cmd/treaty/internal/schema"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// recordsPage is the number of records in one request.
const recordsPage = 500

func (a *app) recordsCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "records NAME",
		Short:             "Show a saga's journal, oldest record first",
		Long:              "Show a saga's journal, oldest record first: what happened, and who decided it.",
		Args:              exact("NAME"),
		ValidArgsFunction: a.completeSaga(""),
		RunE: a.run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			name, err := parseName(args[0])
			if err != nil {
				return err
			}
			if err := a.connect(ctx); err != nil {
				return err
			}
			return a.records(ctx, name)
		}),
	}
}

func (a *app) records(ctx context.Context, name string) error {
	types := schema.NewJournalTypes(a.client.Schema)
	encoder := types.Encoder()
	journal := render.NewJournal(a.view(render.SagaPayloads), name)
	request := &treatyv1.ListSagaRecordsRequest{Parent: name, PageSize: recordsPage}
	for read := 0; ; {
		page, err := a.recordsPage(ctx, request)
		if err != nil {
			return a.explain(err, problem.Subject{Doing: "reading the journal", Saga: name})
		}
		for _, record := range page.GetRecords() {
			types.Next(record.GetRecord())
			if a.flags.json {
				a.print(string(encoder.Encode(record)) + "\n")
				continue
			}
			journal.Add(record, types.Payload())
		}
		read += len(page.GetRecords())
		a.progress.say("reading the journal, %d records so far", read)
		request.PageToken = page.GetNextPageToken()
		if request.PageToken == "" {
			break
		}
	}
	a.print(journal.String())
	return nil
}

func (a *app) recordsPage(
	ctx context.Context, request *treatyv1.ListSagaRecordsRequest,
) (*treatyv1.ListSagaRecordsResponse, error) {
	ctx, cancel := a.unary(ctx)
	defer cancel()
	return a.client.Sagas.ListSagaRecords(ctx, request)
}
