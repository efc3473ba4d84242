package company

import (
	"strings"
	"testing"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	notificationv1 "github.com/treatyhq/treaty/gen/acme/notification/v1"
)

// agreed returns holdings without contradictions: Ada has moved, and Grace has a card.
func agreed() *Holdings {
	return &Holdings{
		Customers: []*customerv1.Customer{
			{Name: "customers/ada", Address: &customerv1.Address{Lines: []string{"B 2"}, City: "Delft", Country: "NL"},
				AddressRevision: 2},
			{Name: "customers/grace", Address: &customerv1.Address{Lines: []string{"A 1"}, City: "Delft",
				Country: "NL"}, AddressRevision: 1},
			{Name: "customers/new", Address: &customerv1.Address{Lines: []string{"C 3"}, City: "Delft", Country: "NL"},
				AddressRevision: 1},
		},
		PostalAddresses: []*cardv1.PostalAddress{
			{Customer: "customers/ada", Postal: &cardv1.Postal{Lines: []string{"B 2"}, City: "Delft", Country: "NL"},
				AddressRevision: 2},
			{Customer: "customers/grace", Postal: &cardv1.Postal{Lines: []string{"A 1"}, City: "Delft", Country: "NL"},
				AddressRevision: 1},
		},
		Applicants: []*identityv1.Applicant{{Name: "applicants/grace", Customer: "customers/grace"}},
		Cards:      []*cardv1.Card{{Name: "cards/grace", Customer: "customers/grace"}},
		Messages:   []*notificationv1.Message{{Name: "messages/grace", Customer: "customers/grace"}},
	}
}

func TestDisagreements(t *testing.T) {
	for _, test := range []struct {
		name, says string // empty if all agree
		change     func(*Holdings)
	}{
		{"all agree", "", func(*Holdings) {}},
		{"another street", "customers/ada has the address",
			func(h *Holdings) { h.PostalAddresses[0].Postal.Lines = []string{"A 1"} }},
		{"another country", "customers/ada has the address",
			func(h *Holdings) { h.PostalAddresses[0].Postal.Country = "BE" }},
		{"another revision", "customers/ada has the address",
			func(h *Holdings) { h.PostalAddresses[0].AddressRevision = 1 }},
		{"moved at one service only", "but no postal address at card",
			func(h *Holdings) { h.PostalAddresses = h.PostalAddresses[1:] }},
		{"an orphan address", "but customer has no such customer", func(h *Holdings) { h.Customers = h.Customers[1:] }},
		{"a card without a customer", "but customer has no such customer",
			func(h *Holdings) { h.Cards[0].Customer = "customers/nobody" }},
		{"an applicant without a card", "0 cards, 1 applicants (1 of them without an inspection)",
			func(h *Holdings) { h.Applicants[0].Customer = "customers/new" }},
		{"an applicant without a card whose passport was inspected", "", func(h *Holdings) {
			h.Applicants = append(h.Applicants, &identityv1.Applicant{Name: "applicants/new",
				Customer: "customers/new"})
			h.Inspections = append(h.Inspections, &identityv1.Inspection{Name: "inspections/new",
				Applicant: "applicants/new"})
		}},
		{"an inspection without an applicant", "but there is no such applicant", func(h *Holdings) {
			h.Inspections = append(h.Inspections, &identityv1.Inspection{Name: "inspections/new",
				Applicant: "applicants/new"})
		}},
		{"a card without an applicant", "1 cards, 0 applicants", func(h *Holdings) { h.Applicants = nil }},
		{"no welcome", "0 welcomes", func(h *Holdings) { h.Messages = nil }},
		{"a review", "", func(h *Holdings) {
			h.Messages = append(h.Messages, &notificationv1.Message{Name: "messages/review", Customer: "customers/new",
				Subject: reviewSubject})
		}},
		{"a review without a customer", "but customer has no such customer", func(h *Holdings) {
			h.Messages = append(h.Messages, &notificationv1.Message{Name: "messages/review",
				Customer: "customers/nobody", Subject: reviewSubject})
		}},
		{"two cards", "2 cards", func(h *Holdings) { h.Cards = append(h.Cards, h.Cards[0]) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := agreed()
			test.change(h)
			found := strings.Join(h.Disagreements(), "\n")
			if (found == "") != (test.says == "") || !strings.Contains(found, test.says) {
				t.Errorf("found %q, want %q in it", found, test.says)
			}
		})
	}
}
