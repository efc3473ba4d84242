package participant_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/participant"
)

// buffer is a log that may be written and read at the same time.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// servePlain starts a grpc.Server that has only the interceptors of package participant.
func servePlain(t *testing.T, log *slog.Logger, register func(*grpc.Server)) *grpc.ClientConn {
	t.Helper()
	server := grpc.NewServer(
		grpc.ChainUnaryInterceptor(participant.UnaryServerInterceptor(log)),
		grpc.ChainStreamInterceptor(participant.StreamServerInterceptor(log)),
	)
	register(server)
	return testkit.Dial(t, testkit.Serve(t, server))
}

// bothServers runs a test on a plain grpc.Server with the interceptor, and on a server made by NewServer.
func bothServers(
	t *testing.T, service customerv1.CustomerServiceServer, test func(*testing.T, customerv1.CustomerServiceClient,
		*buffer),
) {
	t.Helper()
	t.Run("plain", func(t *testing.T) {
		var log buffer
		connection := servePlain(t, slog.New(slog.NewTextHandler(&log, nil)), func(server *grpc.Server) {
			customerv1.RegisterCustomerServiceServer(server, service)
		})
		test(t, customerv1.NewCustomerServiceClient(connection), &log)
	})
	t.Run("NewServer", func(t *testing.T) {
		var log buffer
		server, _ := serve(t, participant.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}, service)
		connection := testkit.Dial(t, server.Addr().String())
		test(t, customerv1.NewCustomerServiceClient(connection), &log)
	})
}

const testTrace = "4bf92f3577b34da6a3ce929d0e0e4736"

// inSaga returns the context of an action in a trace.
func inSaga(ctx context.Context) context.Context {
	command := participant.Command{
		Saga: "sagas/s", CommandID: "sagas/s/steps/1", Direction: participant.Action, Attempt: 1,
	}
	return metadata.AppendToOutgoingContext(command.Outgoing(ctx), "traceparent",
		"00-"+testTrace+"-00f067aa0ba902b7-01")
}

func TestErrorsForTheCaller(t *testing.T) {
	service := &fake{get: func(ctx context.Context, name string) (*customerv1.Customer, error) {
		switch name {
		case "panic":
			panic("boom")
		case "plain":
			return nil, errors.New("secret path /var/db")
		case "refused":
			closed := &customerv1.CustomerClosed{Customer: "customers/1"}
			return nil, participant.Refuse(codes.FailedPrecondition, "closed", closed)
		case "wrapped":
			return nil, fmt.Errorf("secret: %w", participant.Refuse(codes.FailedPrecondition, "closed", nil))
		case "deadline":
			return nil, fmt.Errorf("reading: %w", context.DeadlineExceeded)
		case "database":
			return nil, fmt.Errorf("no such table: %w", status.Error(codes.Unavailable, "the database failed"))
		default:
			<-ctx.Done()
			return nil, errors.New("interrupted (9)")
		}
	}}
	bothServers(t, service, func(t *testing.T, client customerv1.CustomerServiceClient, log *buffer) {
		for _, test := range []struct {
			name    string
			code    codes.Code
			message string
		}{
			{"panic", codes.Internal, "internal error; see the service's log, trace " + testTrace},
			{"plain", codes.Internal, "internal error; see the service's log, trace " + testTrace},
			{"refused", codes.FailedPrecondition, "closed"},
			{"wrapped", codes.FailedPrecondition, "closed"},
			{"deadline", codes.DeadlineExceeded, "the call's deadline passed"},
			{"database", codes.Unavailable, "the database failed"},
		} {
			_, err := client.GetCustomer(inSaga(t.Context()), &customerv1.GetCustomerRequest{Name: test.name})
			if s := status.Convert(err); s.Code() != test.code || s.Message() != test.message {
				t.Errorf("%s: %v, want %v: %s", test.name, err, test.code, test.message)
			}
		}
		for _, want := range []string{
			"panic=boom", "secret path /var/db", "no such table",
			"trace_id=" + testTrace, "saga=sagas/s", "command_id=sagas/s/steps/1",
		} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("the log lacks %q:\n%s", want, log.String())
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := client.GetCustomer(ctx, &customerv1.GetCustomerRequest{Name: "interrupted"})
		if status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("interrupted by the deadline: %v, want DEADLINE_EXCEEDED", err)
		}
		if strings.Contains(log.String(), "interrupted") {
			t.Errorf("the log has a call that its caller ended:\n%s", log.String())
		}
	})
}

func TestCommandInTheContext(t *testing.T) {
	service := &fake{get: func(ctx context.Context, _ string) (*customerv1.Customer, error) {
		c, ok := participant.FromContext(ctx)
		return &customerv1.Customer{Name: fmt.Sprint(c.CommandID, " ", ok)}, nil
	}}
	bothServers(t, service, func(t *testing.T, client customerv1.CustomerServiceClient, _ *buffer) {
		got, err := client.GetCustomer(inSaga(t.Context()), &customerv1.GetCustomerRequest{})
		if err != nil || got.GetName() != "sagas/s/steps/1 true" {
			t.Errorf("a saga's call: %v, %v", got, err)
		}
		got, err = client.GetCustomer(t.Context(), &customerv1.GetCustomerRequest{})
		if err != nil || got.GetName() != " false" {
			t.Errorf("a person's call: %v, %v", got, err)
		}
		bad := metadata.AppendToOutgoingContext(t.Context(), participant.CommandIDKey, "17")
		if _, err := client.GetCustomer(bad,
			&customerv1.GetCustomerRequest{}); status.Code(err) != codes.InvalidArgument {
			t.Errorf("malformed metadata: %v, want INVALID_ARGUMENT", err)
		}
	})
}

// watcher is a health service whose stream fails.
type watcher struct {
	healthgrpc.UnimplementedHealthServer

	watch func() error
}

func (w *watcher) Watch(
	*healthgrpc.HealthCheckRequest, grpc.ServerStreamingServer[healthgrpc.HealthCheckResponse],
) error {
	return w.watch()
}

func TestStreams(t *testing.T) {
	w := &watcher{}
	connection := servePlain(t, slog.New(slog.DiscardHandler), func(server *grpc.Server) {
		healthgrpc.RegisterHealthServer(server, w)
	})
	for name, watch := range map[string]func() error{
		"panic": func() error { panic("boom") },
		"plain": func() error { return errors.New("secret path /var/db") },
	} {
		w.watch = watch
		stream, err := healthgrpc.NewHealthClient(connection).Watch(t.Context(), &healthgrpc.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = stream.Recv()
		if s := status.Convert(err); s.Code() != codes.Internal ||
			s.Message() != "internal error; see the service's log" {
			t.Errorf("%s: %v, want INTERNAL without a cause", name, err)
		}
	}
}
