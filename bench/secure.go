package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/treatyhq/treaty/orchestrator"
	"github.com/treatyhq/treaty/participant"
)

// The names of processes that prove who they are.
const (
	trustDomain         = "spiffe://bench.example/"
	secureClient        = "client"
	secureTreaty        = "treaty"
	secureParticipant   = "participant"
	securePolicy        = "policy.yaml"
	secureAuthorityFile = "ca.pem"
)

// benchPolicy lets the client start sagas.
const benchPolicy = `grants:
- principals: ` + trustDomain + secureClient + `
  roles: starter
  definitions: bench.v1.WorkSagas/*
`

// secureDir is a directory with an authority, a certificate for each process, and a policy. The empty one means
// plaintext, where everybody may do everything.
type secureDir string

// newSecureDir writes the files of a secured side.
func newSecureDir(dir string) (secureDir, error) {
	if err := writeSecureDir(dir); err != nil {
		return "", fmt.Errorf("making certificates: %w", err)
	}
	return secureDir(dir), nil
}

func writeSecureDir(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, authority, authority, &key.PublicKey, key)
	if err != nil {
		return err
	}
	errs := []error{
		writePEM(dir, secureAuthorityFile, "CERTIFICATE", der),
		os.WriteFile(filepath.Join(dir, securePolicy), []byte(benchPolicy), 0o600),
	}
	for i, name := range []string{secureClient, secureTreaty, secureParticipant} {
		errs = append(errs, issue(dir, name, int64(i)+2, authority, key))
	}
	return errors.Join(errs...)
}

// issue writes the certificate and the key of a process.
func issue(dir, name string, serial int64, authority *x509.Certificate, signer *ecdsa.PrivateKey) error {
	id, err := url.Parse(trustDomain + name)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotAfter: authority.NotAfter, URIs: []*url.URL{id},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, authority, &key.PublicKey, signer)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		writePEM(dir, name+".pem", "CERTIFICATE", der), writePEM(dir, name+".key", "PRIVATE KEY", private),
	)
}

func writePEM(dir, name, kind string, der []byte) error {
	return os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

func (s secureDir) file(name string) string { return filepath.Join(string(s), name) }

// args returns the arguments that make a process prove who it is.
func (s secureDir) args() []string {
	if s == "" {
		return nil
	}
	return []string{"--certificates", string(s)}
}

// orchestrator returns the options of an orchestrator.
func (s secureDir) orchestrator() []orchestrator.Option {
	if s == "" {
		return nil
	}
	authority, cert, key := s.file(secureAuthorityFile), s.file(secureTreaty+".pem"), s.file(secureTreaty+".key")
	return []orchestrator.Option{
		orchestrator.WithTLS(cert, key), orchestrator.WithClientCA(authority),
		orchestrator.WithParticipantTLS(orchestrator.ParticipantTLS{CAFile: authority, CertFile: cert, KeyFile: key}),
		orchestrator.WithPolicyFile(s.file(securePolicy)),
	}
}

// participant adds the options of a participant.
func (s secureDir) participant(options participant.Options) participant.Options {
	if s != "" {
		options.TLSCertFile, options.TLSKeyFile = s.file(secureParticipant+".pem"), s.file(secureParticipant+".key")
		options.TLSClientCAFile = s.file(secureAuthorityFile)
		options.Orchestrators = []string{trustDomain + secureTreaty}
	}
	return options
}

// client returns the credentials of the client.
func (s secureDir) client() (credentials.TransportCredentials, error) {
	if s == "" {
		return insecure.NewCredentials(), nil
	}
	pair, err := tls.LoadX509KeyPair(s.file(secureClient+".pem"), s.file(secureClient+".key"))
	if err != nil {
		return nil, fmt.Errorf("reading the client's certificate: %w", err)
	}
	text, err := os.ReadFile(s.file(secureAuthorityFile))
	if err != nil {
		return nil, fmt.Errorf("reading the authority: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return credentials.NewTLS(&tls.Config{
		RootCAs: pool, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13,
	}), nil
}
