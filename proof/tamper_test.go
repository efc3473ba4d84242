package proof

import (
	"database/sql"
	"testing"

	"github.com/treatyhq/treaty/services/demo/audit"
	"github.com/treatyhq/treaty/services/demo/company"
)

// tampering is a change of a database after an ordeal that breaks a promise. The audit must find it.
type tampering struct {
	name, service string
	breaks        audit.Invariant
	change        string // an SQL statement that changes at least one row
}

var tamperings = []tampering{
	{"a customer who is gone", company.Customer, audit.AllOrNothing,
		`DELETE FROM customers WHERE name = (SELECT max(name) FROM customers WHERE email LIKE 'client-%')`},
	{"a change of address that is half undone", company.Customer, audit.AllOrNothing,
		`UPDATE addresses SET undone = 0
		 WHERE (customer, revision) = (SELECT customer, max(revision) FROM addresses WHERE undone = 1)`},
	{"an applicant whom nobody registered", company.Identity, audit.OneEffect,
		`INSERT INTO applicants (name, customer, display_name, passport_number, register_reference, create_time)
		 SELECT 'applicants/twice', customer, display_name, passport_number, 'twice', create_time
		 FROM applicants LIMIT 1`},
	{"a command that the ledger lost", company.Credit, audit.AllOrNothing,
		`DELETE FROM treaty_inbox
		 WHERE sequence = (SELECT min(sequence) FROM treaty_inbox WHERE verdict = 'executed')`},
	{"a command of no saga", company.Credit, audit.DurableBeforeSent,
		`UPDATE treaty_inbox SET command_id = 'sagas/nobody/steps/4'
		 WHERE sequence = (SELECT max(sequence) FROM treaty_inbox)`},
	{"a second card", company.Card, audit.OneEffect,
		`INSERT INTO cards (name, customer, product, number, limit_cents, issue_time)
		 SELECT 'cards/twice', customer, product, '0000000000000000', limit_cents, issue_time FROM cards LIMIT 1`},
	{"a command that was sent before it was recorded", company.Card, audit.DurableBeforeSent,
		`UPDATE treaty_inbox SET executed_at = executed_at - 60000000
		 WHERE sequence = (SELECT min(sequence) FROM treaty_inbox)`},
	{"an effect after the end", company.Card, audit.NothingAfterTheEnd,
		`UPDATE treaty_inbox SET executed_at = executed_at + 60000000
		 WHERE sequence = (SELECT max(sequence) FROM treaty_inbox WHERE verdict = 'executed')`},
	{"an undo that did nothing", company.Customer, audit.NullCompensationIsNoOp,
		`UPDATE treaty_inbox SET verdict = 'null-compensated'
		 WHERE sequence = (SELECT min(sequence) FROM treaty_inbox
		 WHERE direction = 'compensation' AND verdict = 'executed')`},
	{"an action after its undo", company.Customer, audit.NoActionAfterCompensation,
		`UPDATE treaty_inbox SET sequence = sequence + 1000000
		 WHERE verdict = 'executed' AND direction = 'action' AND command_id =
		 (SELECT max(command_id) FROM treaty_inbox WHERE direction = 'compensation' AND verdict = 'executed')`},
	{"undos in another order", company.Customer, audit.ReverseOrder,
		`UPDATE treaty_inbox SET executed_at = executed_at - 60000000
		 WHERE direction = 'compensation' AND method LIKE '%RemoveCustomer'`},
	{"a person whom one service wasn't asked to forget", company.Credit, audit.AllOrNothing,
		`DELETE FROM treaty_inbox WHERE sequence =
		 (SELECT max(sequence) FROM treaty_inbox WHERE method LIKE '%DeleteUserData' AND verdict = 'executed')`},
	{"a passport that was accepted and never inspected", company.Identity, audit.OneEffect,
		`UPDATE treaty_inbox SET verdict = 'accepted', reply = x'' WHERE verdict = 'executed' AND command_id IN
		 (SELECT command_id FROM treaty_inbox WHERE method LIKE '%InspectPassport'
		 EXCEPT SELECT command_id FROM treaty_inbox WHERE direction = 'compensation')`},
	{"an accepted command of a child that wasn't undone", company.Identity, audit.AllOrNothing,
		`DELETE FROM treaty_inbox
		 WHERE direction = 'compensation' AND verdict = 'executed' AND command_id LIKE 'sagas/c%'`},
	{"a second welcome", company.Notification, audit.OneEffect,
		`INSERT INTO messages (name, customer, email, subject, text, send_time)
		 SELECT 'messages/twice', customer, email, subject, text, send_time FROM messages LIMIT 1`},
}

// try changes a database and checks that the audit finds a new violation. It returns the report of the audit.
func (c tampering) try(t *testing.T, acme *company.Company, before *audit.Report) *audit.Report {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+acme.Database(c.service)+"?mode=rw")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	result, err := db.ExecContext(t.Context(), c.change)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		t.Fatalf("%d rows changed: %v", n, err)
	}
	facts, err := acme.Facts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	after := audit.Check(facts)
	if len(after.Of(c.breaks)) <= len(before.Of(c.breaks)) {
		t.Errorf("the audit doesn't report a violation of invariant %d:\n%s", c.breaks, after)
	}
	return after
}
