package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// orchestrator is the address of the orchestrator. The service completes its accepted commands there, and the played
// register publishes its decisions there.
type orchestrator struct {
	address, authorities string
	certificate, key     string // of this service; empty: none
}

func (o *orchestrator) addFlags(flags *flag.FlagSet) {
	flags.StringVar(&o.address, "orchestrator", "127.0.0.1:7080",
		"`address` of the orchestrator, host:port, to complete commands and to publish events")
	flags.StringVar(&o.authorities, "orchestrator-tls-ca", "",
		"PEM `file` with the authorities that may issue the orchestrator's certificate; "+
			"if empty, the connection is plaintext")
	flags.StringVar(&o.certificate, "orchestrator-tls-cert", "",
		"PEM `file` with this service's client certificate, for an orchestrator that asks for one (--tls-client-ca); "+
			"with --participant-identity, only its identity may complete this service's commands")
	flags.StringVar(&o.key, "orchestrator-tls-key", "", "PEM `file` with the key of --orchestrator-tls-cert")
}

// dial returns a connection that connects when it is first used, and again whenever it is lost.
func (o *orchestrator) dial(plaintextAnywhere bool) (*grpc.ClientConn, error) {
	if o.authorities == "" && !plaintextAnywhere && !onLoopback(o.address) {
		return nil, fmt.Errorf("--orchestrator %s: plaintext is allowed on loopback addresses only: "+
			"set --orchestrator-tls-ca, or --insecure to let anybody on the network read and change what is sent",
			o.address)
	}
	transport, err := o.transport()
	if err != nil {
		return nil, err
	}
	connection, err := grpc.NewClient("dns:///"+o.address,
		grpc.WithTransportCredentials(transport), grpc.WithDisableRetry(),
		grpc.WithStatsHandler(otelgrpc.NewClientHandler()))
	if err != nil {
		return nil, fmt.Errorf("--orchestrator %s: %w", o.address, err)
	}
	return connection, nil
}

// transport returns TLS if there are authorities, and plaintext otherwise.
func (o *orchestrator) transport() (credentials.TransportCredentials, error) {
	switch {
	case (o.certificate == "") != (o.key == ""):
		return nil, errors.New("--orchestrator-tls-cert and --orchestrator-tls-key belong together: " +
			"set both or neither")
	case o.certificate != "" && o.authorities == "":
		return nil, errors.New("--orchestrator-tls-cert requires --orchestrator-tls-ca: plaintext has no certificates")
	case o.authorities == "":
		return insecure.NewCredentials(), nil
	}
	pem, err := os.ReadFile(o.authorities)
	if err != nil {
		return nil, fmt.Errorf("reading --orchestrator-tls-ca: %w", err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--orchestrator-tls-ca %s: no certificate in PEM form", o.authorities)
	}
	if o.certificate == "" {
		return credentials.NewTLS(config), nil
	}
	if _, err := o.pair(); err != nil {
		return nil, err
	}
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return o.pair() }
	return credentials.NewTLS(config), nil
}

// pair reads this service's certificate and its key. They are read at each connection, so that renewed ones are used.
func (o *orchestrator) pair() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(o.certificate, o.key)
	if err != nil {
		return nil, fmt.Errorf("reading --orchestrator-tls-cert and --orchestrator-tls-key: %w", err)
	}
	return &pair, nil
}

func onLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
