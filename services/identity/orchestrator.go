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

// orchestrator is the address of the orchestrator. The service completes its accepted commands there, and the played
// register publishes its decisions there.
type orchestrator struct {
	address, authorities string
}

func (o *orchestrator) addFlags(flags *flag.FlagSet) {
	flags.StringVar(&o.address, "orchestrator", "127.0.0.1:7080",
		"`address` of the orchestrator, host:port, to complete commands and to publish events")
	flags.StringVar(&o.authorities, "orchestrator-tls-ca", "",
		"PEM `file` with the authorities that may issue the orchestrator's certificate; "+
			"if empty, the connection is plaintext")
}

// dial returns a connection that connects when it is first used, and again whenever it is lost.
func (o *orchestrator) dial(plaintextAnywhere bool) (*grpc.ClientConn, error) {
	transport := insecure.NewCredentials()
	if o.authorities != "" {
		var err error
		if transport, err = credentials.NewClientTLSFromFile(o.authorities, ""); err != nil {
			return nil, fmt.Errorf("--orchestrator-tls-ca %s: %w", o.authorities, err)
		}
	} else if !plaintextAnywhere && !onLoopback(o.address) {
		return nil, fmt.Errorf("--orchestrator %s: plaintext is allowed on loopback addresses only: "+
			"set --orchestrator-tls-ca, or --insecure to let anybody on the network read and change what is sent",
			o.address)
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
