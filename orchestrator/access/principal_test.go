package access_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"slices"
	"testing"

	"github.com/treatyhq/treaty/orchestrator/access"
)

func TestPrincipals(t *testing.T) {
	named := func(name string) pkix.Name { return pkix.Name{CommonName: name, Organization: []string{"Acme"}} }
	uris := func(texts ...string) (parsed []*url.URL) {
		for _, text := range texts {
			uri, err := url.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			parsed = append(parsed, uri)
		}
		return parsed
	}
	root := &x509.Certificate{Subject: pkix.Name{CommonName: "Acme: root"}}
	certificate := func(leaf x509.Certificate) access.Principal {
		return access.OfCertificate([]*x509.Certificate{&leaf, root})
	}
	for _, test := range []struct {
		name      string
		principal access.Principal
		want      []string // its identities, its id first
	}{
		{"nothing", access.Principal{}, []string{"anonymous"}},
		{"no certificate", access.OfCertificate(nil), []string{"anonymous"}},
		{"a certificate without a name", certificate(x509.Certificate{}), []string{"anonymous"}},
		{"a SPIFFE id", certificate(x509.Certificate{
			Subject: named("a"), DNSNames: []string{"a"}, URIs: uris("spiffe://acme.example/orders"),
		}), []string{"spiffe://acme.example/orders"}},
		{"two URIs", certificate(x509.Certificate{
			Subject: named("a"), URIs: uris("spiffe://acme.example/orders", "spiffe://acme.example/admin"),
		}), []string{"x509:CN=Acme%3A root:CN=a,O=Acme"}},
		{"another URI", certificate(x509.Certificate{Subject: named("a"), URIs: uris("https://a.example")}),
			[]string{"x509:CN=Acme%3A root:CN=a,O=Acme"}},
		{"a SPIFFE id as a subject", certificate(x509.Certificate{Subject: pkix.Name{CommonName: "spiffe://a/b"}}),
			[]string{"x509:CN=Acme%3A root:CN=spiffe://a/b"}},
		{"DNS names", certificate(x509.Certificate{DNSNames: []string{"Orders.acme.example", "a%b"}}),
			[]string{"x509:CN=Acme%3A root:", "dns:CN=Acme%3A root:orders.acme.example", "dns:CN=Acme%3A root:a%25b"}},
		{"a token", access.Principal{Kind: access.JWT, Issuer: "https://id.example", Name: "clerk 7"},
			[]string{"jwt:https://id.example#clerk 7"}},
		{"a token whose issuer has a separator",
			access.Principal{Kind: access.JWT, Issuer: "https://id.example#a", Name: "b"},
			[]string{"jwt:https://id.example%23a#b"}},
		{"a token with control characters", access.Principal{Kind: access.JWT, Issuer: "i", Name: "a\n\x1b[m\xff"},
			[]string{"jwt:i#a%0A%1B[m%FF"}},
		{"a user", access.OfUser(0), []string{"local:0"}},
		{"somebody on this machine", access.Principal{Kind: access.Local}, []string{"local"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.principal.Identities(); !slices.Equal(got, test.want) {
				t.Errorf("the identities are %q, want %q", got, test.want)
			}
		})
	}
}
