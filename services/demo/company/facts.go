package company

import (
	"context"
	"errors"
	"fmt"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/services/demo/audit"
)

// tables are the tables in which each participant stores its effects: the file, by its suffix after the database's
// name, and the query. The first address of a customer is part of the customer.
var tables = map[string][]struct{ suffix, query string }{
	Customer: {
		{"", `SELECT name, 0 FROM customers ORDER BY sequence`},
		{"", `SELECT customer || '@' || revision, undone FROM addresses WHERE revision > 1
			ORDER BY customer, revision`},
	},
	Identity: {
		{"", `SELECT name, 0 FROM applicants ORDER BY sequence`},
		{"", `SELECT name, 0 FROM inspections WHERE inspect_time IS NOT NULL ORDER BY sequence`},
		{".register", `SELECT 'register/' || reference, withdrawn FROM registrations WHERE reference <> ''
			ORDER BY sequence`},
	},
	Credit: {{"", `SELECT name, state = 'ABANDONED' FROM checks ORDER BY sequence`}},
	Card: {
		{"", `SELECT name, 0 FROM cards ORDER BY sequence`},
		{"", `SELECT customer || '@' || revision, undone FROM postal_addresses ORDER BY sequence`},
	},
	Notification: {{"", `SELECT name, 0 FROM messages ORDER BY sequence`}},
}

// Facts gathers the facts for an audit from the orchestrator's API and the participants' databases. The orchestrator
// must be running, and no saga may be in flight.
func (c *Company) Facts(ctx context.Context) (*audit.Facts, error) {
	sagas, err := c.Sagas(ctx)
	if err != nil {
		return nil, err
	}
	facts := &audit.Facts{Sagas: sagas}
	if facts.Lost, err = c.lost(ctx); err != nil {
		return nil, err
	}
	requests := requestsOf(sagas)
	for _, service := range Participants() {
		if err := c.factsOf(ctx, service, requests, facts); err != nil {
			return nil, err
		}
	}
	return facts, nil
}

func (c *Company) factsOf(
	ctx context.Context, service string, requests map[string]*treatyv1.StepScheduled, facts *audit.Facts,
) (err error) {
	db, err := c.openDatabase(service, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	entries, err := db.ledger(ctx)
	if err != nil {
		return err
	}
	effects := newEffects(service)
	ledger := audit.Ledger{Service: service}
	for i := range entries {
		if err := effects.add(&entries[i], requests[entries[i].CommandID]); err != nil {
			return err
		}
	}
	var held []audit.Effect
	for _, table := range tables[service] {
		found, err := c.effectsIn(ctx, service, table.suffix, table.query)
		if err != nil {
			return err
		}
		held = append(held, found...)
	}
	effects.settle(held)
	facts.Effects = append(facts.Effects, held...)
	for _, e := range entries {
		ledger.Rows = append(ledger.Rows, e.Row)
	}
	facts.Ledgers = append(facts.Ledgers, ledger)
	return nil
}

func (c *Company) effectsIn(ctx context.Context, service, suffix, query string) (effects []audit.Effect, err error) {
	db, err := c.openDatabase(service, suffix)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.effects(ctx, query)
}

// requestsOf returns the intent of each command.
func requestsOf(sagas []audit.Saga) map[string]*treatyv1.StepScheduled {
	intents := make(map[string]*treatyv1.StepScheduled)
	for _, s := range sagas {
		for _, r := range s.Records {
			if scheduled := r.GetRecord().GetStepScheduled(); scheduled != nil {
				intents[wire.JoinStep(s.View.GetName(), scheduled.GetStep())] = scheduled
			}
		}
	}
	return intents
}

// Sagas reads all sagas and their journals through the orchestrator's API.
func (c *Company) Sagas(ctx context.Context) ([]audit.Saga, error) {
	client := treatyv1.NewSagaServiceClient(c.Conn(Orchestrator))
	var sagas []audit.Saga
	request := &treatyv1.ListSagasRequest{PageSize: 1000, OrderBy: "create_time"}
	for {
		page, err := client.ListSagas(ctx, request)
		if err != nil {
			return nil, fmt.Errorf("listing sagas: %w", err)
		}
		for _, listed := range page.GetSagas() {
			s, err := readSaga(ctx, client, listed.GetName())
			if err != nil {
				return nil, err
			}
			sagas = append(sagas, s)
		}
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
			return sagas, nil
		}
	}
}

func readSaga(ctx context.Context, client treatyv1.SagaServiceClient, name string) (audit.Saga, error) {
	view, err := client.GetSaga(ctx, &treatyv1.GetSagaRequest{Name: name})
	if err != nil {
		return audit.Saga{}, fmt.Errorf("reading %s: %w", name, err)
	}
	s := audit.Saga{View: view}
	request := &treatyv1.ListSagaRecordsRequest{Parent: name, PageSize: 1000}
	for {
		page, err := client.ListSagaRecords(ctx, request)
		if err != nil {
			return audit.Saga{}, fmt.Errorf("reading the journal of %s: %w", name, err)
		}
		s.Records = append(s.Records, page.GetRecords()...)
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
			return s, nil
		}
	}
}
