// Package caller says who makes a call, from what the transport has verified.
package caller

import (
	"crypto/x509"
	"slices"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// Certificate returns the client certificate of a call's peer, or nil if it has none that was verified.
func Certificate(p *peer.Peer) *x509.Certificate {
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 || len(info.State.VerifiedChains[0]) == 0 {
		return nil
	}
	return info.State.VerifiedChains[0][0]
}

// Identities returns the identities of a certificate: its URIs and DNS names. The subject's common name is one only if
// there is neither, since authorities check it less strictly. A name with a colon is none, since it could pass for a
// URI.
func Identities(certificate *x509.Certificate) []string {
	var identities []string
	for _, uri := range certificate.URIs {
		if text := uri.String(); strings.Contains(text, ":") {
			identities = append(identities, text)
		}
	}
	names := certificate.DNSNames
	if len(names) == 0 && len(certificate.URIs) == 0 {
		names = []string{certificate.Subject.CommonName}
	}
	for _, name := range names {
		if name != "" && !strings.Contains(name, ":") {
			identities = append(identities, name)
		}
	}
	return identities
}

// Has returns whether a certificate has one of the identities. Names are compared without regard to case, URIs exactly.
// A nil certificate has none.
func Has(certificate *x509.Certificate, identities []string) bool {
	if certificate == nil {
		return false
	}
	return slices.ContainsFunc(Identities(certificate), func(own string) bool {
		return slices.ContainsFunc(identities, func(identity string) bool {
			return own == identity || !strings.Contains(own, ":") && strings.EqualFold(own, identity)
		})
	})
}
