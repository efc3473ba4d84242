package main

import (
	"flag"
	"fmt"
	"net"
	"net/netip"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// orchestrator says where the orchestrator is: the service completes there what it accepted, and the played register
// publishes there what it decided.
type orchestrator struct {
	address, authorities string
}

func (o *orchestrator) addFlags(flags *flag.FlagSet) {
	flags.StringVar(&o.address, "orchestrator", "127.0.0.1:7080",
		"`address` of the orchestrator, host:port, to complete what takes long and to publish events")
	flags.StringVar(&o.authorities, "orchestrator-tls-ca", "",
		"PEM `file` with the authorities that the orchestrator's certificate must come from; empty speaks plaintext")
}

// dial connects when the connection is first used, and again whenever it is lost.
func (o *orchestrator) dial(plaintextAnywhere bool) (*grpc.ClientConn, error) {
	transport := insecure.NewCredentials()
	if o.authorities != "" {
		var err error
		if transport, err = credentials.NewClientTLSFromFile(o.authorities, ""); err != nil {
			return nil, fmt.Errorf("--orchestrator-tls-ca %s: %w", o.authorities, err)
		}
	} else if !plaintextAnywhere && !onLoopback(o.address) {
		return nil, fmt.Errorf("--orchestrator %s: plaintext is spoken on loopback addresses only: give --orchestrator-tls-ca, or --insecure to let anybody on the way read and change what is sent", o.address)
	}
	connection, err := grpc.NewClient("dns:///"+o.address,
		grpc.WithTransportCredentials(transport), grpc.WithDisableRetry(),
		grpc.WithStatsHandler(otelgrpc.NewClientHandler()))
	if err != nil {
		return nil, fmt.Errorf("--orchestrator %s: %w", o.address, err)
	}
	return connection, nil
}

func onLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
