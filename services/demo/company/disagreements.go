package company

import (
	"fmt"
	"slices"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
)

// reviewSubject is the subject of the messages that aren't welcomes.
const reviewSubject = "Your review at Acme"

// Disagreements describes contradictions between services. Every customer's address is where their cards are posted to.
// A customer with a card is verified and was welcomed once. A customer without a card was never welcomed, and is an
// applicant only because of a separate verification, which comes with an inspection of the passport.
func (h *Holdings) Disagreements() []string {
	d := &disagreements{holdings: h, customers: make(map[string]*customerv1.Customer)}
	for _, c := range h.Customers {
		d.customers[c.GetName()] = c
	}
	d.compare(d.addresses())
	d.inspections()
	slices.Sort(d.found)
	return slices.Compact(d.found)
}

// disagreements is one search for contradictions.
type disagreements struct {
	holdings  *Holdings
	customers map[string]*customerv1.Customer
	found     []string
}

func (d *disagreements) add(format string, args ...any) {
	d.found = append(d.found, fmt.Sprintf(format, args...))
}

// addresses compares customers' addresses with the addresses that their cards go to, and returns the customers whose
// address the card service knows.
func (d *disagreements) addresses() (posted map[string]bool) {
	posted = make(map[string]bool)
	for _, p := range d.holdings.PostalAddresses {
		posted[p.GetCustomer()] = true
		c := d.customers[p.GetCustomer()]
		switch {
		case c == nil:
			d.add("card has a postal address of %s, but customer has no such customer", p.GetCustomer())
		case !SameAddress(c.GetAddress(), p.GetPostal()) || c.GetAddressRevision() != p.GetAddressRevision():
			d.add("%s has the address %q (revision %d) at customer, but the postal address %q (revision %d) at card",
				c.GetName(),
				Line(c.GetAddress()), c.GetAddressRevision(), Line(p.GetPostal()), p.GetAddressRevision())
		}
	}
	return posted
}

// compare compares cards, applicants and messages.
func (d *disagreements) compare(posted map[string]bool) {
	inspected := make(map[string]bool)
	for _, i := range d.holdings.Inspections {
		inspected[i.GetApplicant()] = true
	}
	cards, applicants, uninspected, welcomes, messages := make(map[string]int), make(map[string]int),
		make(map[string]int), make(map[string]int), make(map[string]int)
	for _, c := range d.holdings.Cards {
		cards[c.GetCustomer()]++
	}
	for _, a := range d.holdings.Applicants {
		applicants[a.GetCustomer()]++
		if !inspected[a.GetName()] {
			uninspected[a.GetCustomer()]++
		}
	}
	for _, m := range d.holdings.Messages {
		messages[m.GetCustomer()]++
		if m.GetSubject() != reviewSubject {
			welcomes[m.GetCustomer()]++
		}
	}
	for _, who := range [...]map[string]int{cards, applicants, messages} {
		for customer := range who {
			if d.customers[customer] == nil {
				d.add("%s has %d cards, %d applicants and %d messages, but customer has no such customer", customer,
					cards[customer], applicants[customer], messages[customer])
			}
		}
	}
	for n, c := range d.customers {
		if cards[n] > 1 || cards[n] != welcomes[n] || applicants[n] < cards[n] || uninspected[n] > cards[n] {
			d.add("%s has %d cards, %d applicants (%d of them without an inspection) and %d welcomes", n, cards[n],
				applicants[n], uninspected[n], welcomes[n])
		}
		if !posted[n] && (cards[n] > 0 || c.GetAddressRevision() > 1) {
			d.add("%s has the address %q (revision %d) at customer, but no postal address at card", n,
				Line(c.GetAddress()),
				c.GetAddressRevision())
		}
	}
}

// inspections compares inspections with the applicants whose passports were inspected.
func (d *disagreements) inspections() {
	known := make(map[string]bool)
	for _, a := range d.holdings.Applicants {
		known[a.GetName()] = true
	}
	for _, i := range d.holdings.Inspections {
		if !known[i.GetApplicant()] {
			d.add("%s is an inspection of %s, but there is no such applicant", i.GetName(), i.GetApplicant())
		}
	}
}
