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

// credentials decides how the orchestrator is spoken to: TLS where any TLS flag is given, plaintext on loopback or with
// --insecure, and nothing else.
func (o Options) credentials(certificateAsked *atomic.Bool) (credentials.TransportCredentials, error) {
	local, err := isLocal(o.Address)
	if err != nil {
		return nil, err
	}
	wantsTLS := o.TLS || o.CAFile != "" || o.CertFile != "" || o.KeyFile != "" || o.ServerName != ""
	switch {
	case wantsTLS && o.Insecure:
		return nil, problem.Usage("--insecure and the --tls flags exclude each other")
	case wantsTLS:
		config, err := o.tlsConfig(certificateAsked)
		if err != nil {
			return nil, err
		}
		return credentials.NewTLS(config), nil
	case local || o.Insecure:
		return insecure.NewCredentials(), nil
	default:
		return nil, problem.Usage(o.Address+" isn't a loopback address, and plaintext is for loopback only",
			"Give --tls-ca FILE (or --tls to trust the system's authorities), or accept with --insecure that anyone on the way can read and change what is sent.")
	}
}

func (o Options) tlsConfig(certificateAsked *atomic.Bool) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: o.ServerName}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, problem.Usage("--tls-ca can't be read: " + err.Error())
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, problem.Usage("--tls-ca " + o.CAFile + " holds no certificate in PEM form")
		}
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		return nil, problem.Usage("--tls-cert and --tls-key go together")
	}
	var pair tls.Certificate // none, which is a valid answer
	if o.CertFile != "" {
		var err error
		if pair, err = tls.LoadX509KeyPair(o.CertFile, o.KeyFile); err != nil {
			return nil, problem.Usage("the client certificate can't be used: "+err.Error(), "See --tls-cert and --tls-key.")
		}
	}
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		certificateAsked.Store(true)
		return &pair, nil
	}
	return config, nil
}

// isLocal tells whether an address can't leave this machine.
func isLocal(address string) (bool, error) {
	if strings.HasPrefix(address, "unix:") {
		return true, nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || port == "" || strings.Contains(host, "/") {
		return false, problem.Usage("--address "+strconv.Quote(address)+" isn't an address", "Write it as HOST:PORT (an IPv6 host in brackets) or unix:PATH.")
	}
	if host == "localhost" {
		return true, nil
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback(), nil
}
