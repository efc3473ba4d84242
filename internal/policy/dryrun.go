package policy

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/treatyhq/treaty/orchestrator/access"
)

// maxRecord is how long a line of an audit log may be, in bytes.
const maxRecord = 1 << 20

// The decisions in an audit log.
const (
	allowed = "allowed"
	refused = "refused"
)

// DryRun is what a policy would decide about recorded calls.
type DryRun struct {
	// Calls is how many calls were compared.
	Calls int

	// Others is how many lines of the log are about something else.
	Others int

	// WithoutDNS is how many calls have a client certificate of which the DNS names weren't recorded, so that a grant
	// by DNS name couldn't count.
	WithoutDNS int

	// Changes are the calls about which the policy decides otherwise, equal ones together: first those that it would
	// refuse, and of them the most frequent ones.
	Changes []Change
}

// Change is a kind of call about which a policy decides otherwise than it was decided.
type Change struct {
	// Principal is the id of the caller.
	Principal string

	// Request is what the caller wanted. It has no principal.
	Request access.Request

	// Allowed is what the policy would decide.
	Allowed bool

	// Calls is how many such calls there are.
	Calls int
}

// Resource names what the call was about, such as "acme.card.v1.CardIssued from //card.acme.example". It is empty if
// the call was about everything.
func (c *Change) Resource() string {
	var parts []string
	for _, part := range []struct{ before, text string }{
		{"", c.Request.Definition}, {"", c.Request.Method}, {"", c.Request.EventType}, {"from ", c.Request.Source},
		{"as ", c.Request.Consumer},
	} {
		if part.text != "" {
			parts = append(parts, part.before+part.text)
		}
	}
	return strings.Join(parts, " ")
}

// record is a line of an audit log.
type record struct {
	Principal  string   `json:"principal"`
	Identities []string `json:"identities"`
	Action     string   `json:"action"`
	Definition string   `json:"definition"`
	Saga       string   `json:"saga"`
	Method     string   `json:"method"`
	EventType  string   `json:"event_type"`
	Source     string   `json:"source"`
	Consumer   string   `json:"consumer"`
	Decision   string   `json:"decision"`
}

// DryRun decides about the calls of an audit log, whose lines are JSON objects. The log's name is only for errors.
func (p *Policy) DryRun(name string, log io.Reader) (*DryRun, error) {
	result := new(DryRun)
	type kind struct {
		principal, action, definition, method, eventType, source, consumer string
		allowed                                                            bool
	}
	found := make(map[kind]*Change)
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, maxRecord)
	number := 0
	for lines.Scan() {
		number++
		if len(lines.Bytes()) == 0 {
			continue
		}
		var r record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("%s:%d: want one JSON object per line: %w", name, number, err)
		}
		if r.Action == "" || r.Principal == "" {
			result.Others++
			continue
		}
		if r.Decision != allowed && r.Decision != refused {
			return nil, fmt.Errorf("%s:%d: the decision is %.50q: want %s or %s", name, number, r.Decision, allowed,
				refused)
		}
		result.Calls++
		identities := r.Identities
		if len(identities) == 0 {
			identities = []string{r.Principal}
			if strings.HasPrefix(r.Principal, "x509:") {
				result.WithoutDNS++
			}
		}
		request := access.Request{Action: access.Action(r.Action), Definition: r.Definition, Method: r.Method,
			EventType: r.EventType, Source: r.Source, Consumer: r.Consumer}
		now := p.AuthorizeAs(identities, request) == nil
		if now == (r.Decision == allowed) {
			continue
		}
		k := kind{r.Principal, r.Action, r.Definition, r.Method, r.EventType, r.Source, r.Consumer, now}
		if found[k] == nil {
			found[k] = &Change{Principal: r.Principal, Request: request, Allowed: now}
		}
		found[k].Calls++
	}
	if err := lines.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			return nil, fmt.Errorf("%s:%d: the line has more than %d bytes", name, number+1, maxRecord)
		}
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	for _, change := range found {
		result.Changes = append(result.Changes, *change)
	}
	slices.SortFunc(result.Changes, compareChanges)
	return result, nil
}

func compareChanges(a, b Change) int {
	rank := func(c Change) int {
		if c.Allowed {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(b.Calls, a.Calls), cmp.Compare(a.Principal, b.Principal),
		cmp.Compare(a.Request.Action, b.Request.Action), cmp.Compare(a.Resource(), b.Resource()))
}
