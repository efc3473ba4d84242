package audit_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/treatyhq/treaty/orchestrator/access"
	"github.com/treatyhq/treaty/orchestrator/internal/audit"
)

// output is what a log has written.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write adds to the output.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// entries returns the lines since the last call, without their times.
func entries(t *testing.T, log *output) (lines []map[string]any) {
	t.Helper()
	log.mu.Lock()
	defer log.mu.Unlock()
	defer log.text.Reset()
	for line := range strings.Lines(log.text.String()) {
		entry := make(map[string]any)
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		delete(entry, "time")
		lines = append(lines, entry)
	}
	return lines
}

// TestEntries writes each kind of entry.
func TestEntries(t *testing.T) {
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	ada := access.Principal{Kind: access.JWT, Issuer: "i", Name: "ada"}
	from := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 9}
	for _, test := range []struct {
		name, method string
		request      access.Request
		reason       error
		want         string // the entry; empty for none
	}{
		{"an allowed start", "acme.A/B", access.Request{Action: access.Start, Definition: "acme.A/B"}, nil,
			"map[action:start decision:allowed definition:acme.A/B level:INFO msg:access principal:jwt:i#ada " +
				"rpc:acme.A/B trace_id:" + trace + "]"},
		{"a refused completion", "treaty.v1.SagaService/CompleteStep", access.Request{
			Action: access.Complete, Definition: "acme.A/B", Saga: "sagas/1", Method: "acme.C/D",
		}, errors.New("no grant"), "map[action:complete decision:refused definition:acme.A/B level:WARN " +
			"method:acme.C/D msg:access principal:jwt:i#ada reason:no grant rpc:treaty.v1.SagaService/CompleteStep " +
			"saga:sagas/1 trace_id:" + trace + "]"},
		{"an allowed event", "treaty.v1.EventService/PublishEvents", access.Request{
			Action: access.Publish, EventType: "acme.E", Source: "orders",
		}, nil, "map[action:publish decision:allowed event_type:acme.E level:INFO msg:access principal:jwt:i#ada " +
			"rpc:treaty.v1.EventService/PublishEvents source:orders trace_id:" + trace + "]"},
		{"an allowed read", "treaty.v1.SagaService/GetSaga", access.Request{Action: access.Read}, nil, ""},
		{"a refused read", "treaty.v1.SagaService/GetSaga", access.Request{Action: access.Read}, errors.New("no"),
			"map[action:read decision:refused level:WARN msg:access principal:jwt:i#ada reason:no " +
				"rpc:treaty.v1.SagaService/GetSaga trace_id:" + trace + "]"},
		{"an allowed heartbeat", "treaty.v1.SagaService/HeartbeatStep", access.Request{Action: access.Complete}, nil,
			""},
		{"an allowed acknowledgement", "treaty.v1.EventService/AcknowledgeEvents", access.Request{
			Action: access.Consume, Consumer: "c",
		}, nil, ""},
		{"an allowed stream", "treaty.v1.EventService/StreamEvents", access.Request{
			Action: access.Consume, Consumer: "c",
		}, nil, "map[action:consume consumer:c decision:allowed level:INFO msg:access principal:jwt:i#ada " +
			"rpc:treaty.v1.EventService/StreamEvents trace_id:" + trace + "]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out output
			log := audit.New(slog.New(slog.NewJSONHandler(&out, nil)))
			ctx := metadata.NewIncomingContext(t.Context(),
				metadata.Pairs("traceparent", "00-"+trace+"-00f067aa0ba902b7-01"))
			test.request.Principal = ada
			log.Decided(ctx, test.method, test.request, test.reason)
			got := entries(t, &out)
			want := "[" + test.want + "]"
			if fmt.Sprint(got) != want {
				t.Errorf("got %v, want %s", got, want)
			}
		})
	}
	var out output
	log := audit.New(slog.New(slog.NewJSONHandler(&out, nil)))
	log.TokenRefused(t.Context(), "acme.A/B", from, errors.New("expired"))
	log.HandshakeRefused(from, errors.New("unknown authority"))
	got, want := fmt.Sprint(entries(t, &out)), "[map[decision:refused from:192.0.2.1:9 level:WARN msg:token refused "+
		"reason:expired rpc:acme.A/B] map[decision:refused from:192.0.2.1:9 level:WARN msg:handshake refused "+
		"reason:unknown authority]]"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestBounded refuses more handshakes than are written, and a token meanwhile.
func TestBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out output
		log := audit.New(slog.New(slog.NewJSONHandler(&out, nil)))
		from := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 9}
		for range 1000 {
			log.HandshakeRefused(from, errors.New("no certificate"))
		}
		log.TokenRefused(t.Context(), "acme.A/B", from, errors.New("expired"))
		synctest.Wait()
		if got := entries(t, &out); len(got) != 51 || got[50]["msg"] != "token refused" {
			t.Fatalf("%d entries were written, want 50 handshakes and the token", len(got))
		}
		<-time.After(2 * time.Second)
		synctest.Wait()
		if got := entries(t, &out); len(got) != 1 || got[0]["count"] != 950.0 ||
			got[0]["what"] != "refused handshakes" {
			t.Errorf("what was left out is written as %v", got)
		}
		for range 51 {
			log.HandshakeRefused(from, errors.New("no certificate"))
		}
		log.Close()
		if got := entries(t, &out); len(got) != 51 || got[50]["count"] != 1.0 {
			t.Errorf("a second later, %d entries were written, want 50 and a count", len(got))
		}
		<-time.After(2 * time.Second)
	})
}
