package server

import (
	"cmp"
	"context"
	"crypto/x509"

	"google.golang.org/grpc/peer"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/caller"
	"github.com/treatyhq/treaty/orchestrator/access"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

const (
	maxActor  = 256
	maxReason = 2048
)

// decisionOf returns the decision to journal: who the caller is, and beside it, as a note, whom it names as the actor.
// If it names nobody, the actor is the name in its certificate, or else the principal that a token or a socket proves.
func decisionOf(ctx context.Context, given *treatyv1.Decision) (*treatyv1.Decision, error) {
	principal := access.PrincipalOf(ctx).String()
	actor := cmp.Or(given.GetActor(), certificateName(ctx))
	if actor == "" && journal.Proven(principal) {
		actor = principal[:min(len(principal), maxActor)]
	}
	switch {
	case len(actor) > maxActor:
		return nil, invalid("decision.actor", "has %d bytes; at most %d are allowed", len(actor), maxActor)
	case len(given.GetReason()) > maxReason:
		return nil, invalid(
			"decision.reason", "has %d bytes; at most %d are allowed", len(given.GetReason()), maxReason,
		)
	}
	return &treatyv1.Decision{
		Actor: actor, Reason: given.GetReason(), Principal: principal,
	}, nil
}

// completeDecisionOf is decisionOf for a decision that needs an actor and a reason. audience says whom the reason is
// for.
func completeDecisionOf(ctx context.Context, given *treatyv1.Decision, audience string) (*treatyv1.Decision, error) {
	decision, err := decisionOf(ctx, given)
	switch {
	case err != nil:
	case decision.GetReason() == "":
		err = invalid("decision.reason", "is missing: say why, %s", audience)
	case decision.GetActor() == "":
		err = invalid("decision.actor", "is missing: say who decides, or call with a client certificate")
	}
	return decision, err
}

// personsDecisionOf is completeDecisionOf for a decision that is journaled.
func personsDecisionOf(ctx context.Context, given *treatyv1.Decision) (*treatyv1.Decision, error) {
	return completeDecisionOf(ctx, given, "for people who read the journal later")
}

// callersCertificate returns the caller's verified certificate, or nil if there is none.
func callersCertificate(ctx context.Context) *x509.Certificate {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	return caller.Certificate(p)
}

// certificateName returns the name in the caller's verified certificate: its subject, or else its first URI, as SPIFFE
// uses it, or its first DNS name. It returns an empty string when there is no certificate.
func certificateName(ctx context.Context) string {
	leaf := callersCertificate(ctx)
	switch {
	case leaf == nil:
		return ""
	case len(leaf.Subject.Names) > 0:
		return leaf.Subject.String()
	case len(leaf.URIs) > 0:
		return leaf.URIs[0].String()
	case len(leaf.DNSNames) > 0:
		return leaf.DNSNames[0]
	default:
		return "certificate " + leaf.SerialNumber.Text(16) + " without a subject"
	}
}
