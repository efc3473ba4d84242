package testkit

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// certificateLifetime is how long certificates are valid, before and after now.
const certificateLifetime = time.Hour

// Authority issues certificates.
type Authority struct {
	// Cert is the authority's own certificate.
	Cert *x509.Certificate

	// Pool holds Cert.
	Pool *x509.CertPool

	key *ecdsa.PrivateKey
}

// Certificate is a certificate with its key.
type Certificate struct {
	tls.Certificate

	// CertPEM and KeyPEM are the certificate and its key in PEM.
	CertPEM, KeyPEM []byte
}

// NewAuthority returns a new authority.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	template := newTemplate(t, "authority")
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	key := newKey(t)
	cert := sign(t, template, template, key, key)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &Authority{Cert: cert, Pool: pool, key: key}
}

// PEM returns the authority's own certificate in PEM.
func (a *Authority) PEM() []byte { return encode("CERTIFICATE", a.Cert.Raw) }

// Issue returns a certificate for a client or server with a common name. It is valid for the loopback address, for
// localhost and for the common name.
func (a *Authority) Issue(t testing.TB, commonName string) Certificate {
	t.Helper()
	names := []string{"localhost"}
	if commonName != "" {
		names = append(names, commonName)
	}
	return a.IssueAs(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: commonName}, DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	})
}

// IssueAs returns a certificate for a client or server with the subject and the alternative names of another, and with
// its times and extended key usages if it has some.
func (a *Authority) IssueAs(t testing.TB, names *x509.Certificate) Certificate {
	t.Helper()
	template := newTemplate(t, "")
	template.Subject, template.DNSNames = names.Subject, names.DNSNames
	template.IPAddresses, template.URIs = names.IPAddresses, names.URIs
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	if names.ExtKeyUsage != nil {
		template.ExtKeyUsage = names.ExtKeyUsage
	}
	if !names.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = names.NotBefore, names.NotAfter
	}
	key := newKey(t)
	cert := sign(t, template, a.Cert, key, a.key)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return Certificate{
		Certificate: tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert},
		CertPEM:     encode("CERTIFICATE", cert.Raw), KeyPEM: encode("PRIVATE KEY", der),
	}
}

// Write writes the certificate to {dir}/{name}.pem and its key to {dir}/{name}.key, and returns their paths.
func (c Certificate) Write(t testing.TB, dir, name string) (certFile, keyFile string) {
	t.Helper()
	return WriteFile(t, dir, name+".pem", c.CertPEM), WriteFile(t, dir, name+".key", c.KeyPEM)
}

// WriteFile writes a file that only its owner can read, and returns its path.
func WriteFile(t testing.TB, dir, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func newTemplate(t testing.TB, commonName string) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: commonName},
		NotBefore: now.Add(-certificateLifetime), NotAfter: now.Add(certificateLifetime),
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
