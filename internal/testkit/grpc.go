package testkit

import (
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// Serve serves a gRPC server on a free port of the loopback interface until the test ends, and returns its address.
func Serve(t testing.TB, server *grpc.Server) (address string) {
	t.Helper()
	return ServeOn(t, server, "127.0.0.1:0")
}

// ServeOn is Serve on an address.
func ServeOn(t testing.TB, server *grpc.Server, address string) string {
	t.Helper()
	listener := listen(t, address)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() {
		server.Stop()
		serving.Wait()
	})
	return listener.Addr().String()
}

// Listen listens on a free port of the loopback interface until the test ends.
func Listen(t testing.TB) net.Listener {
	t.Helper()
	listener := listen(t, "127.0.0.1:0")
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

// UnusedAddress returns an address of the loopback interface at which nothing listens.
func UnusedAddress(t testing.TB) string {
	t.Helper()
	listener := listen(t, "127.0.0.1:0")
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	return listener.Addr().String()
}

func listen(t testing.TB, address string) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// Dial returns a plaintext connection to an address. It is closed when the test ends. Further options override the
// defaults.
func Dial(t testing.TB, address string, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	options = append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableServiceConfig()}, options...)
	conn, err := grpc.NewClient(address, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
