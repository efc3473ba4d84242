package policy

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/treatyhq/treaty/orchestrator/access"
)

// maxKnown is how many principals a policy remembers. Callers with tokens may have any number of names.
const maxKnown = 4096

// Policy allows what one of its grants allows. It is safe for concurrent use, and never changes.
type Policy struct {
	grants []*grant

	mu    sync.RWMutex
	known map[principal]*rights
}

// principal is what identifies an access.Principal, but for its DNS names.
type principal struct {
	kind         access.Kind
	issuer, name string
}

// rights are the grants of one principal.
type rights struct {
	dnsNames []string
	grants   []*grant
}

// grant allows actions on resources to principals.
type grant struct {
	principals patterns
	actions    actionSet
	resources  map[resource]*patterns
}

// Grants returns how many grants the policy has.
func (p *Policy) Grants() int { return len(p.grants) }

// Authorize implements [access.Authorizer]. A refusal is a [*MissingError].
func (p *Policy) Authorize(_ context.Context, request access.Request) error {
	for _, g := range p.grantsOf(&request.Principal) {
		if g.allows(&request) {
			return nil
		}
	}
	return &MissingError{Request: request}
}

// Changed implements [access.Authorizer]. A policy never changes.
func (p *Policy) Changed() <-chan struct{} { return nil }

// AuthorizeAs is Authorize for a principal of which only its identities are known.
func (p *Policy) AuthorizeAs(identities []string, request access.Request) error {
	for _, g := range p.grants {
		if slices.ContainsFunc(identities, g.principals.match) && g.allows(&request) {
			return nil
		}
	}
	return &MissingError{Request: request, Identities: identities}
}

// Names returns the methods and event types that grants name, without patterns, sorted.
func (p *Policy) Names() (methodNames, eventTypes []string) {
	names := func(kind resource) []string {
		found := make(map[string]bool)
		for _, g := range p.grants {
			if list := g.resources[kind]; list != nil {
				maps.Copy(found, list.exact)
			}
		}
		return slices.Sorted(maps.Keys(found))
	}
	return names(methods), names(events)
}

// NamesDNS returns whether a grant names a certificate by a DNS name.
func (p *Policy) NamesDNS() bool {
	isDNS := func(name string) bool { return strings.HasPrefix(name, "dns:") }
	return slices.ContainsFunc(p.grants, func(g *grant) bool {
		return slices.ContainsFunc(slices.Collect(maps.Keys(g.principals.exact)), isDNS) ||
			slices.ContainsFunc(g.principals.wild, func(p pattern) bool { return isDNS(p.prefix) })
	})
}

// grantsOf returns the grants of a principal, and remembers them.
func (p *Policy) grantsOf(who *access.Principal) []*grant {
	key := principal{who.Kind, who.Issuer, who.Name}
	p.mu.RLock()
	r := p.known[key]
	p.mu.RUnlock()
	if r != nil && slices.Equal(r.dnsNames, who.DNSNames) {
		return r.grants
	}
	r = &rights{dnsNames: slices.Clone(who.DNSNames)}
	identities := who.Identities()
	for _, g := range p.grants {
		if slices.ContainsFunc(identities, g.principals.match) {
			r.grants = append(r.grants, g)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.known) >= maxKnown {
		clear(p.known)
	}
	p.known[key] = r
	return r.grants
}

// allows returns whether the grant allows a request, whoever makes it.
func (g *grant) allows(r *access.Request) bool {
	action := indexOf(r.Action)
	if action < 0 || !g.actions.has(action) {
		return false
	}
	switch r.Action {
	case access.Start, access.Read, access.Cancel, access.Resume, access.UndoChild:
		return g.resources[definitions].match(r.Definition)
	case access.Complete:
		return g.resources[methods].match(r.Method)
	case access.Publish:
		return g.resources[events].match(r.EventType) && g.resources[sources].match(r.Source)
	case access.Consume:
		return g.consumes(r)
	case access.ReadSecrets:
		if r.EventType != "" {
			return g.resources[events].match(r.EventType)
		}
		return g.resources[definitions].match(r.Definition)
	case access.Administer:
		return true
	}
	return false
}

// consumes returns whether the grant allows to read or acknowledge events. Without a consumer, nothing is remembered,
// so nobody else is concerned. Without an event type, a consumer acknowledges what it has read.
func (g *grant) consumes(r *access.Request) bool {
	asConsumer := r.Consumer == "" && g.resources[consumers] != nil || g.resources[consumers].match(r.Consumer)
	acknowledges := r.EventType == "" && r.Consumer != ""
	return asConsumer && (acknowledges && g.resources[events] != nil || g.resources[events].match(r.EventType))
}

// lists returns whether the grant has lists of all these resources.
func (g *grant) lists(kinds []resource) bool {
	return !slices.ContainsFunc(kinds, func(kind resource) bool { return g.resources[kind] == nil })
}

// MissingError is the refusal of a request that no grant allows. Its text names the principal and the resource, so it
// is for logs and not for the caller.
type MissingError struct {
	// Request is what was refused.
	Request access.Request

	// Identities are those of the caller, if the request has no principal.
	Identities []string
}

// Error says which grant would have allowed the request.
func (m *MissingError) Error() string {
	r := &m.Request
	who := r.Principal.String()
	if len(m.Identities) > 0 {
		who = m.Identities[0]
	}
	var text strings.Builder
	fmt.Fprintf(&text, "no grant of the policy lets %.200q do the action %.50q", who, r.Action)
	for _, named := range []struct{ kind, name string }{
		{"the definition", r.Definition}, {"the method", r.Method}, {"the event type", r.EventType},
		{"the source", r.Source}, {"the consumer", r.Consumer},
	} {
		if named.name != "" {
			fmt.Fprintf(&text, " on %s %.200q", named.kind, named.name)
		}
	}
	return text.String()
}
