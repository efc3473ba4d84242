package connection

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
)

// credentials returns TLS if any TLS option is set, and plaintext for loopback or with Insecure. Anything else is an
// error. It sets certificateAsked when the orchestrator asks for a client certificate.
func (o Options) credentials(certificateAsked *atomic.Bool) (credentials.TransportCredentials, error) {
	local, err := isLocal(o.Address)
	if err != nil {
		return nil, err
	}
	wantsTLS := o.TLS || o.CAFile != "" || o.CertFile != "" || o.KeyFile != "" || o.ServerName != ""
	switch {
	case wantsTLS && o.Insecure:
		return nil, problem.Usage("--insecure can't be combined with the --tls flags")
	case wantsTLS:
		config, err := o.tlsConfig(certificateAsked)
		if err != nil {
			return nil, err
		}
		return credentials.NewTLS(config), nil
	case local || o.Insecure:
		return insecure.NewCredentials(), nil
	default:
		return nil, problem.Usage(o.Address+" isn't a loopback address, so plaintext isn't allowed",
			"Set --tls-ca FILE, or --tls to trust the system's authorities.",
			"To accept that anyone on the network path can read and change payloads, set --insecure.")
	}
}

// Local reports whether Address is on this machine. The error is that of [New] for an address that can't be read.
func (o Options) Local() (bool, error) { return isLocal(o.Address) }

func (o Options) tlsConfig(certificateAsked *atomic.Bool) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: o.ServerName}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, problem.Usage("reading --tls-ca: " + err.Error())
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, problem.Usage("--tls-ca " + o.CAFile + " has no certificate in PEM form")
		}
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		return nil, problem.Usage("--tls-cert and --tls-key must be set together")
	}
	var pair tls.Certificate // without a certificate, which is a valid answer
	if o.CertFile != "" {
		var err error
		if pair, err = tls.LoadX509KeyPair(o.CertFile, o.KeyFile); err != nil {
			return nil, problem.Usage("loading the client certificate: "+err.Error(), "Check --tls-cert and --tls-key.")
		}
	}
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		certificateAsked.Store(true)
		return &pair, nil
	}
	return config, nil
}

// isLocal reports whether an address is on this machine.
func isLocal(address string) (bool, error) {
	if strings.HasPrefix(address, "unix:") {
		return true, nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || port == "" || strings.Contains(host, "/") {
		return false, problem.Usage("--address "+strconv.Quote(address)+" isn't an address",
			"Write it as HOST:PORT (an IPv6 host in brackets) or unix:PATH.")
	}
	if host == "localhost" {
		return true, nil
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback(), nil
}
