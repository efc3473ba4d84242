package connection

import (
	"net"
	"testing"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// TestDialsAgainSoon has an address at which no orchestrator is, as during the first build of treaty dev. However long
// that lasts, the client must find it soon after it is there.
func TestDialsAgainSoon(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	dialed := make(chan time.Time)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				close(dialed)
				return
			}
			_ = conn.Close()
			select {
			case dialed <- time.Now():
			case <-t.Context().Done():
			}
		}
	}()
	client, err := New(t.Context(), Options{Address: listener.Addr().String(), Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	go func() {
		for t.Context().Err() == nil { // gRPC dials while there are calls
			_, _ = client.Sagas.ListSagas(t.Context(), &treatyv1.ListSagasRequest{})
			<-time.After(5 * time.Millisecond)
		}
	}()
	last := <-dialed
	for range 9 {
		at := <-dialed
		if wait := at.Sub(last); wait > 3*time.Second {
			t.Fatalf("it dials again after %s", wait)
		}
		last = at
	}
}
