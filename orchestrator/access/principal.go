package access

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"strconv"
	"strings"
)

// Kind is how a principal was proved. Principals of different kinds are never equal.
type Kind string

const (
	// Anonymous is a caller that has proved nothing.
	Anonymous Kind = "anonymous"

	// SPIFFE is a caller with a verified client certificate that has a SPIFFE id.
	SPIFFE Kind = "spiffe"

	// X509 is a caller with another verified client certificate.
	X509 Kind = "x509"

	// JWT is a caller with a verified JSON web token.
	JWT Kind = "jwt"

	// Local is a caller on this machine.
	Local Kind = "local"
)

// Principal is who makes a call. Its fields come from what was verified, never from what the caller claims. A zero
// Principal is anonymous. Principals are values; they are safe for concurrent use.
type Principal struct {
	// Kind is how the principal was proved.
	Kind Kind

	// Issuer vouches for the name: the subject of the root authority of an X509 principal, the iss claim of a JWT.
	// It is empty for the other kinds: a SPIFFE id names its trust domain.
	Issuer string

	// Name is the principal's name at its issuer: a SPIFFE id, the subject of a certificate as RFC 2253 writes it, the
	// sub claim of a token, the number of a user of this machine, or empty if that isn't known.
	Name string

	// DNSNames are the DNS names of an X509 principal's certificate, in lower case.
	DNSNames []string
}

// OfCertificate returns the principal of a verified chain, which begins with the caller's certificate and ends with
// that of the root authority. It is anonymous if the chain is empty or names nobody.
func OfCertificate(chain []*x509.Certificate) Principal {
	if len(chain) == 0 {
		return Principal{Kind: Anonymous}
	}
	leaf, root := chain[0], chain[len(chain)-1]
	if len(leaf.URIs) == 1 && leaf.URIs[0].Scheme == "spiffe" && leaf.URIs[0].Host != "" {
		return Principal{Kind: SPIFFE, Name: leaf.URIs[0].String()} // a certificate with more than one isn't an SVID
	}
	p := Principal{Kind: X509, Issuer: root.Subject.String(), Name: leaf.Subject.String()}
	for _, name := range leaf.DNSNames {
		p.DNSNames = append(p.DNSNames, strings.ToLower(name))
	}
	if p.Name == "" && len(p.DNSNames) == 0 {
		return Principal{Kind: Anonymous}
	}
	return p
}

// OfUser returns the principal of a user of this machine, by the user's number.
func OfUser(uid uint32) Principal {
	return Principal{Kind: Local, Name: strconv.FormatUint(uint64(uid), 10)}
}

// String returns the principal's id: "spiffe://DOMAIN/PATH", "x509:AUTHORITY:SUBJECT", "jwt:ISSUER#SUBJECT",
// "local:UID", "local" or "anonymous". Different principals have different ids: the parts are escaped, so that none
// passes for another.
func (p Principal) String() string {
	switch p.Kind {
	case SPIFFE:
		return p.Name
	case X509:
		return "x509:" + escape(p.Issuer, ":") + ":" + escape(p.Name, "")
	case JWT:
		return "jwt:" + escape(p.Issuer, "#") + "#" + escape(p.Name, "")
	case Local:
		if p.Name == "" {
			return "local"
		}
		return "local:" + p.Name
	case Anonymous:
	}
	return string(cmp.Or(p.Kind, Anonymous))
}

// Identities returns the ids that a policy may name the principal by: its own, and for the DNS names of a certificate
// "dns:AUTHORITY:NAME".
func (p Principal) Identities() []string {
	ids := []string{p.String()}
	for _, name := range p.DNSNames {
		ids = append(ids, "dns:"+escape(p.Issuer, ":")+":"+escape(name, ""))
	}
	return ids
}

// escape percent-encodes the characters of a part that separate it from the next one, and what isn't printable ASCII.
func escape(part, separators string) string {
	var b strings.Builder
	for _, c := range []byte(part) {
		if c == '%' || c < ' ' || c > '~' || strings.IndexByte(separators, c) >= 0 {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
