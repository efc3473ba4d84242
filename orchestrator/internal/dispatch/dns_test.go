package dispatch

import (
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"google.golang.org/grpc"

	"github.com/treatyhq/treaty/internal/testkit"
)

const testHost = "participant.test"

// nameServer is a DNS server that knows one name.
type nameServer struct {
	conn net.PacketConn

	mu        sync.Mutex
	addresses []string
	lookups   int
	changed   chan struct{}
}

// startNameServer starts a name server that finds addresses for testHost, or that the name doesn't exist.
func startNameServer(t *testing.T, addresses ...string) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", anyPort)
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{conn: conn, addresses: addresses, changed: make(chan struct{})}
	var running sync.WaitGroup
	running.Go(s.serve)
	t.Cleanup(func() { _ = conn.Close(); running.Wait() })
	return s
}

// target is the target of a participant whose addresses the server knows.
func (s *nameServer) target(port int) string {
	return "dns://" + s.conn.LocalAddr().String() + "/" + testHost + ":" + strconv.Itoa(port)
}

// set changes the addresses.
func (s *nameServer) set(addresses ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addresses = addresses
}

// awaitLookups waits for n more lookups.
func (s *nameServer) awaitLookups(t *testing.T, n int) {
	t.Helper()
	s.mu.Lock()
	until := s.lookups + n
	for s.lookups < until {
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-t.Context().Done():
			t.Fatal("no lookup")
		}
		s.mu.Lock()
	}
	s.mu.Unlock()
}

func (s *nameServer) serve() {
	buffer := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		var query dnsmessage.Message
		if query.Unpack(buffer[:n]) != nil || len(query.Questions) != 1 {
			continue
		}
		answer, err := s.answer(query.Header.ID, query.Questions[0])
		if err == nil {
			_, _ = s.conn.WriteTo(answer, from)
		}
	}
}

func (s *nameServer) answer(id uint16, question dnsmessage.Question) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	message := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, Response: true, Authoritative: true},
		Questions: []dnsmessage.Question{question},
	}
	if question.Name.String() != testHost+"." || len(s.addresses) == 0 {
		message.Header.RCode = dnsmessage.RCodeNameError
	}
	if question.Type == dnsmessage.TypeA && question.Name.String() == testHost+"." {
		for _, address := range s.addresses {
			message.Answers = append(message.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET},
				Body:   &dnsmessage.AResource{A: [4]byte(net.ParseIP(address).To4())},
			})
		}
		s.lookups++
		close(s.changed)
		s.changed = make(chan struct{})
	}
	return message.Pack()
}

const firstHost, secondHost = "127.0.0.1", "127.0.0.2"

// freePort returns a port that is free on both hosts.
func freePort(t *testing.T) int {
	t.Helper()
	for {
		first, err := net.Listen("tcp", anyPort)
		if err != nil {
			t.Fatal(err)
		}
		port := first.Addr().(*net.TCPAddr).Port
		second, err := net.Listen("tcp", net.JoinHostPort(secondHost, strconv.Itoa(port)))
		_ = first.Close()
		if err == nil {
			_ = second.Close()
			return port
		}
	}
}

// serveAt starts a server at a host's port.
func serveAt(t *testing.T, s *grpc.Server, host string, port int) {
	t.Helper()
	testkit.ServeOn(t, s, net.JoinHostPort(host, strconv.Itoa(port)))
}

// named configures a participant for which a name server is asked. Its lookups are faster than usual.
func named(c *testConfig) {
	c.Participants[0].Plaintext = PlaintextAnywhere
	c.DialOptions = append(c.DialOptions, grpc.WithNoProxy())
	c.pace = pace{lookup: 20 * time.Millisecond, lookupReady: 40 * time.Millisecond, refresh: time.Second}
}
