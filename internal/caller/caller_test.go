package caller_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"slices"
	"testing"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/treatyhq/treaty/internal/caller"
)

func uris(t *testing.T, text string) []*url.URL {
	t.Helper()
	uri, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return []*url.URL{uri}
}

func TestIdentities(t *testing.T) {
	named := func(name string) pkix.Name { return pkix.Name{CommonName: name} }
	for _, test := range []struct {
		name        string
		certificate x509.Certificate
		want        []string
		has         string // one of the identities that it has
		hasNot      string
	}{
		{"a SPIFFE id", x509.Certificate{URIs: uris(t, "spiffe://acme.example/sagas")},
			[]string{"spiffe://acme.example/sagas"}, "spiffe://acme.example/sagas", "spiffe://acme.example/Sagas"},
		{"a DNS name", x509.Certificate{DNSNames: []string{"sagas.acme.example"}}, []string{"sagas.acme.example"},
			"Sagas.acme.example", "acme.example"},
		{"a common name", x509.Certificate{Subject: named("sagas")}, []string{"sagas"}, "sagas", "saga"},
		{"a common name beside a DNS name", x509.Certificate{Subject: named("sagas"), DNSNames: []string{"a"}},
			[]string{"a"}, "a", "sagas"},
		{"a common name beside a URI", x509.Certificate{Subject: named("sagas"), URIs: uris(t, "urn:a")},
			[]string{"urn:a"}, "urn:a", "sagas"},
		{"a common name like a URI", x509.Certificate{Subject: named("spiffe://acme.example/sagas")}, nil, "",
			"spiffe://acme.example/sagas"},
		{"a DNS name like a URI", x509.Certificate{DNSNames: []string{"spiffe://a/b", "c"}}, []string{"c"}, "c",
			"spiffe://a/b"},
		{"a URI like a name", x509.Certificate{URIs: uris(t, "sagas")}, nil, "", "sagas"},
		{"a wildcard", x509.Certificate{DNSNames: []string{"*.acme.example"}}, []string{"*.acme.example"},
			"*.acme.example", "sagas.acme.example"},
		{"nothing", x509.Certificate{}, nil, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := caller.Identities(&test.certificate); !slices.Equal(got, test.want) {
				t.Errorf("the identities are %q, want %q", got, test.want)
			}
			if test.has != "" && !caller.Has(&test.certificate, []string{"other", test.has}) {
				t.Errorf("it doesn't have %q", test.has)
			}
			if caller.Has(&test.certificate, []string{"other", test.hasNot}) {
				t.Errorf("it has %q", test.hasNot)
			}
		})
	}
	if caller.Has(nil, []string{""}) {
		t.Error("no certificate has an identity")
	}
}

func TestCertificate(t *testing.T) {
	leaf, authority := new(x509.Certificate), new(x509.Certificate)
	for _, test := range []struct {
		name string
		auth credentials.AuthInfo
		want *x509.Certificate
	}{
		{"plaintext", nil, nil},
		{"TLS without a client certificate", credentials.TLSInfo{}, nil},
		{"a certificate that wasn't verified", credentials.TLSInfo{State: tls.ConnectionState{
			PeerCertificates: []*x509.Certificate{leaf},
		}}, nil},
		{"a certificate that was verified", credentials.TLSInfo{State: tls.ConnectionState{
			PeerCertificates: []*x509.Certificate{leaf},
			VerifiedChains:   [][]*x509.Certificate{{leaf, authority}},
		}}, leaf},
	} {
		if got := caller.Certificate(&peer.Peer{AuthInfo: test.auth}); got != test.want {
			t.Errorf("%s: got %p, want %p", test.name, got, test.want)
		}
	}
}
