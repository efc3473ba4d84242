package hostile_test

import (
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// rawClient is a client that speaks in frames.
type rawClient struct {
	t      *testing.T
	framer *http2.Framer
}

func newRawClient(t *testing.T, address string) *rawClient {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	c := &rawClient{t, http2.NewFramer(conn, conn)}
	if err := c.framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *rawClient) ping(data [8]byte) {
	c.t.Helper()
	if err := c.framer.WritePing(false, data); err != nil {
		c.t.Fatal(err)
	}
}

// until reads up to a frame of a type.
func (c *rawClient) until(wanted http2.FrameType) http2.Frame {
	c.t.Helper()
	for {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			c.t.Fatalf("wait for a %v frame: %v", wanted, err)
		}
		if frame.Header().Type == wanted {
			return frame
		}
	}
}
