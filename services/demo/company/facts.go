package company

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"google.golang.org/protobuf/proto"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	creditv1 "github.com/treatyhq/treaty/gen/acme/credit/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	notificationv1 "github.com/treatyhq/treaty/gen/acme/notification/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/services/demo/audit"
)

// tables says where each participant keeps its effects: in which file beside the database, and how they are named. A first address is
// part of its customer.
var tables = map[string][]struct{ suffix, query string }{
	Customer: {
		{"", `SELECT name, 0 FROM customers ORDER BY sequence`},
		{"", `SELECT customer || '@' || revision, undone FROM addresses WHERE revision > 1 ORDER BY customer, revision`},
	},
	Identity: {
		{"", `SELECT name, 0 FROM applicants ORDER BY sequence`},
		{".register", `SELECT 'register/' || reference, withdrawn FROM registrations WHERE reference <> '' ORDER BY sequence`},
	},
	Credit: {{"", `SELECT name, state = 'ABANDONED' FROM checks ORDER BY sequence`}},
	Card: {
		{"", `SELECT name, 0 FROM cards ORDER BY sequence`},
		{"", `SELECT customer || '@' || revision, undone FROM postal_addresses ORDER BY sequence`},
	},
	Notification: {{"", `SELECT name, 0 FROM messages ORDER BY sequence`}},
}

// Facts gathers what the orchestrator's API and the participants' databases hold, for an audit. The orchestrator must be running, and no
// saga may be under way.
func (c *Company) Facts(ctx context.Context) (*audit.Facts, error) {
	sagas, err := c.Sagas(ctx)
	if err != nil {
		return nil, err
	}
	facts := &audit.Facts{Sagas: sagas}
	requests := requestsOf(sagas)
	for _, service := range Participants() {
		if err := c.factsOf(ctx, service, requests, facts); err != nil {
			return nil, err
		}
	}
	return facts, nil
}

func (c *Company) factsOf(ctx context.Context, service string, requests map[string]*treatyv1.StepScheduled, facts *audit.Facts) (err error) {
	db, err := c.openDatabase(service, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	entries, err := db.ledger(ctx)
	if err != nil {
		return err
	}
	ledger := audit.Ledger{Service: service}
	for _, e := range entries {
		if e.Direction == audit.Action && e.Verdict == audit.Executed {
			if e.Effects, err = effectsOf(e, requests[e.CommandID].GetRequest()); err != nil {
				return err
			}
		}
		ledger.Rows = append(ledger.Rows, e.Row)
	}
	facts.Ledgers = append(facts.Ledgers, ledger)
	for _, table := range tables[service] {
		effects, err := c.effectsIn(ctx, service, table.suffix, table.query)
		if err != nil {
			return err
		}
		facts.Effects = append(facts.Effects, effects...)
	}
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

// requestsOf finds the intent of each command.
func requestsOf(sagas []audit.Saga) map[string]*treatyv1.StepScheduled {
	intents := make(map[string]*treatyv1.StepScheduled)
	for _, s := range sagas {
		for _, r := range s.Records {
			if scheduled := r.GetRecord().GetStepScheduled(); scheduled != nil {
				intents[s.View.GetName()+"/steps/"+scheduled.GetStep()] = scheduled
			}
		}
	}
	return intents
}

// effectsOf says what an executed action must have left in its participant's tables.
func effectsOf(e entry, request []byte) ([]string, error) {
	var reply proto.Message
	var effects func() []string
	switch e.method {
	case customerv1.CustomerService_CreateCustomer_FullMethodName:
		r := &customerv1.CustomerCreated{}
		reply, effects = r, func() []string { return []string{r.GetCustomer()} }
	case customerv1.CustomerService_ChangeAddress_FullMethodName:
		r := &customerv1.AddressChanged{}
		reply, effects = r, func() []string { return []string{revision(r.GetCustomer(), r.GetAddressRevision())} }
	case identityv1.IdentityService_RegisterApplicant_FullMethodName:
		r := &identityv1.ApplicantRegistered{}
		reply, effects = r, func() []string { return []string{r.GetApplicant(), "register/" + r.GetRegisterReference()} }
	case creditv1.CreditService_CheckCredit_FullMethodName:
		r := &creditv1.CreditChecked{}
		reply, effects = r, func() []string { return []string{r.GetCheck()} }
	case cardv1.CardService_IssueCard_FullMethodName:
		asked := &cardv1.IssueCardRequest{}
		if err := proto.Unmarshal(request, asked); err != nil {
			return nil, fmt.Errorf("reading the request of %s: %w", e.CommandID, err)
		}
		r := &cardv1.CardIssued{}
		reply, effects = r, func() []string {
			return []string{r.GetCard(), revision(asked.GetCustomer(), asked.GetAddressRevision())}
		}
	case cardv1.CardService_ChangePostalAddress_FullMethodName:
		asked := &cardv1.ChangePostalAddressRequest{}
		if err := proto.Unmarshal(request, asked); err != nil {
			return nil, fmt.Errorf("reading the request of %s: %w", e.CommandID, err)
		}
		r := &cardv1.PostalAddressChanged{}
		reply, effects = r, func() []string { return []string{revision(asked.GetCustomer(), asked.GetAddressRevision())} }
	case notificationv1.NotificationService_SendWelcome_FullMethodName:
		r := &notificationv1.WelcomeSent{}
		reply, effects = r, func() []string { return []string{r.GetMessage()} }
	default:
		return nil, fmt.Errorf("the ledger has %s with the method %s, whose effects nobody here knows", e.CommandID, e.method)
	}
	if err := proto.Unmarshal(e.reply, reply); err != nil {
		return nil, fmt.Errorf("reading the reply of %s: %w", e.CommandID, err)
	}
	return effects(), nil
}

func revision(customer string, number int64) string {
	return customer + "@" + strconv.FormatInt(number, 10)
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
