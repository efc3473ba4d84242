package tlsfiles

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/treatyhq/treaty/internal/testkit"
)

// gRPC requires ALPN, and sets the server name from the target if none is configured.
func TestGRPCOverMutualTLS(t *testing.T) {
	a := testkit.NewAuthority(t)
	f := newFiles(t)
	f.renew(t, a, "localhost")
	server, err := Server(ServerParams{Cert: f.cert, Key: f.key, ClientCA: f.ca})
	if err != nil {
		t.Fatal(err)
	}
	client, err := Client(ClientParams{CA: f.ca, Cert: f.cert, Key: f.key})
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(server)))
	healthpb.RegisterHealthServer(s, health.NewServer())
	_, port, _ := net.SplitHostPort(testkit.Serve(t, s))
	for host, fine := range map[string]bool{"localhost": true, "127.0.0.1": false} {
		conn := testkit.Dial(t, net.JoinHostPort(host, port),
			grpc.WithTransportCredentials(credentials.NewTLS(client)))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		_, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
		cancel()
		if (err == nil) != fine {
			t.Errorf("%s: got %v", host, err)
		}
	}
}
