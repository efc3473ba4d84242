package participant_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/internal/incoming"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/participant/inbox"
)

// answering answers with functions, of which nil ones reply with nothing at all.
type answering struct {
	customerv1.UnimplementedCustomerServiceServer

	change  func(ctx context.Context) (*customerv1.AddressChanged, error)
	restore func(ctx context.Context) (*customerv1.AddressRestored, error)
	get     func() *customerv1.Customer
}

func (a *answering) ChangeAddress(
	ctx context.Context, _ *customerv1.ChangeAddressRequest,
) (*customerv1.AddressChanged, error) {
	if a.change == nil {
		return nil, nil
	}
	return a.change(ctx)
}

func (a *answering) RestoreAddress(
	ctx context.Context, _ *customerv1.RestoreAddressRequest,
) (*customerv1.AddressRestored, error) {
	if a.restore == nil {
		return nil, nil
	}
	return a.restore(ctx)
}

func (a *answering) GetCustomer(context.Context, *customerv1.GetCustomerRequest) (*customerv1.Customer, error) {
	if a.get == nil {
		return nil, nil
	}
	return a.get(), nil
}

// TestNilReply checks that a handler that returns nothing at all hasn't succeeded.
func TestNilReply(t *testing.T) {
	bothServers(t, &answering{}, func(t *testing.T, client customerv1.CustomerServiceClient, log *buffer) {
		const want = "has returned neither a reply nor an error"
		for name, ctx := range map[string]context.Context{"a command": inSaga(t.Context()), "a person": t.Context()} {
			var trailer metadata.MD
			_, err := client.ChangeAddress(ctx, &customerv1.ChangeAddressRequest{}, grpc.Trailer(&trailer))
			if status.Code(err) != codes.Internal || !strings.Contains(err.Error(), want) ||
				!strings.Contains(err.Error(), "acme.customer.v1.CustomerService/ChangeAddress") {
				t.Errorf("%s: %v, want INTERNAL with the method and the reason", name, err)
			}
			if got := strings.Join(trailer[participant.AnswerKey], " "); got != "attempt" {
				t.Errorf("%s: the mark is %q, want attempt", name, got)
			}
		}
		if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks the error:\n%s", log.String())
		}
	})
}

// TestReplyLimit checks that a reply that an orchestrator can't receive is reported, and never passes for "not now".
func TestReplyLimit(t *testing.T) {
	big := strings.Repeat("x", participant.DefaultMaxMessageBytes)
	service := &answering{
		change: func(context.Context) (*customerv1.AddressChanged, error) {
			return &customerv1.AddressChanged{Customer: big}, nil
		},
		get: func() *customerv1.Customer { return &customerv1.Customer{Name: big} },
	}
	bothServers(t, service, func(t *testing.T, client customerv1.CustomerServiceClient, log *buffer) {
		receives := grpc.MaxCallRecvMsgSize(len(big) * 2)
		_, err := client.ChangeAddress(inSaga(t.Context()), &customerv1.ChangeAddressRequest{}, receives)
		if status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "4194309 bytes, and at most 4194304") {
			t.Errorf("a command: %v, want INTERNAL with the sizes", err)
		}
		_, err = client.GetCustomer(inSaga(t.Context()), &customerv1.GetCustomerRequest{}, receives)
		if status.Code(err) != codes.OutOfRange {
			t.Errorf("a query: %v, want OUT_OF_RANGE", err)
		}
		if n := strings.Count(log.String(), "level=ERROR"); n != 2 || !strings.Contains(log.String(), "saga=sagas/s") {
			t.Errorf("%d errors are logged, want 2 with the saga:\n%s", n, log.String())
		}
	})
	t.Run("a client of another kind", func(t *testing.T) {
		connection := servePlain(t, slog.New(slog.DiscardHandler), func(server *grpc.Server) {
			customerv1.RegisterCustomerServiceServer(server, service)
		})
		if _, err := customerv1.NewCustomerServiceClient(connection).GetCustomer(t.Context(),
			&customerv1.GetCustomerRequest{}, grpc.MaxCallRecvMsgSize(len(big)*2)); err != nil {
			t.Error(err)
		}
	})
}

// TestRoomForTheUndo checks that an action with a large request has a smaller limit for its reply, since the request of
// its compensation has both. The inbox enforces it before anything is committed.
func TestRoomForTheUndo(t *testing.T) {
	for name, test := range map[string]struct{ request, want int }{
		"small request": {1 << 10, 0},
		"large request": {3 << 20, 1 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			var limit int
			service := &answering{change: func(ctx context.Context) (*customerv1.AddressChanged, error) {
				limit = incoming.MaxReplyBytes(ctx)
				return &customerv1.AddressChanged{}, nil
			}}
			bothServers(t, service, func(t *testing.T, client customerv1.CustomerServiceClient, _ *buffer) {
				request := &customerv1.ChangeAddressRequest{Customer: strings.Repeat("x", test.request)}
				if _, err := client.ChangeAddress(inSaga(t.Context()), request); err != nil {
					t.Fatal(err)
				}
				if limit > test.want || limit < test.want-100 {
					t.Errorf("a reply has at most %d bytes, want %d", limit, test.want)
				}
			})
		})
	}
}

// TestErrorLimit checks that an error with too many details reaches the caller without them, and with its code.
func TestErrorLimit(t *testing.T) {
	service := &answering{change: func(context.Context) (*customerv1.AddressChanged, error) {
		return nil, participant.Refuse(codes.FailedPrecondition, strings.Repeat("ä", 100_000),
			&customerv1.CustomerClosed{Customer: strings.Repeat("x", 100_000)})
	}}
	bothServers(t, service, func(t *testing.T, client customerv1.CustomerServiceClient, log *buffer) {
		_, err := client.ChangeAddress(inSaga(t.Context()), &customerv1.ChangeAddressRequest{})
		s := status.Convert(err)
		if s.Code() != codes.FailedPrecondition || proto.Size(s.Proto()) > participant.MaxErrorBytes ||
			!strings.Contains(s.Message(), "without its details") {
			t.Errorf("got %s with %d bytes, want FAILED_PRECONDITION with less", s.Code(), proto.Size(s.Proto()))
		}
		if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), "limit=16384") {
			t.Errorf("the log lacks the error:\n%s", log.String())
		}
	})
}

// TestCompensationWithBoth checks that a compensation arrives although it contains the largest request and the largest
// reply.
func TestCompensationWithBoth(t *testing.T) {
	const limit = 100_000
	server, _ := serve(t, participant.Options{MaxMessageBytes: limit}, &answering{
		restore: func(context.Context) (*customerv1.AddressRestored, error) {
			return &customerv1.AddressRestored{}, nil
		},
	})
	client := customerv1.NewCustomerServiceClient(testkit.Dial(t, server.Addr().String()))
	undo := &customerv1.RestoreAddressRequest{
		Action: &customerv1.ChangeAddressRequest{Customer: strings.Repeat("x", limit-4)},
		Reply:  &customerv1.AddressChanged{Customer: strings.Repeat("x", limit-4)},
	}
	if proto.Size(undo.GetAction()) != limit || proto.Size(undo.GetReply()) != limit {
		t.Fatalf("the sizes are %d and %d", proto.Size(undo.GetAction()), proto.Size(undo.GetReply()))
	}
	if _, err := client.RestoreAddress(inSaga(t.Context()), undo); err != nil {
		t.Error(err)
	}
}

// TestMistakesReachThePerson checks what the caller and the log say if a handler goes around its inbox.
func TestMistakesReachThePerson(t *testing.T) {
	db, err := inbox.OpenSQLiteDB(inbox.SQLiteDSN(filepath.Join(t.TempDir(), "customer.db")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if _, err := db.ExecContext(t.Context(), `CREATE TABLE effects (n INTEGER PRIMARY KEY)`); err != nil {
		t.Fatal(err)
	}
	in, err := inbox.OpenSQLite(t.Context(), db, inbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var handler func(ctx context.Context, tx *inbox.Tx) (*customerv1.AddressChanged, error)
	service := &answering{change: func(ctx context.Context) (*customerv1.AddressChanged, error) {
		return inbox.Handle(ctx, in, func(tx *inbox.Tx) (*customerv1.AddressChanged, error) { return handler(ctx, tx) })
	}}
	const write = `INSERT INTO effects DEFAULT VALUES`
	var log buffer
	server, _ := serve(t, participant.Options{
		MaxMessageBytes: 1000, Logger: slog.New(slog.NewTextHandler(&log, nil)),
	}, service)
	client := customerv1.NewCustomerServiceClient(testkit.Dial(t, server.Addr().String()))
	for step, test := range []struct {
		name    string
		handler func(ctx context.Context, tx *inbox.Tx) (*customerv1.AddressChanged, error)
		code    codes.Code
		message string
		mark    string
	}{
		{"writes through the database", func(ctx context.Context, _ *inbox.Tx) (*customerv1.AddressChanged, error) {
			if _, err := db.ExecContext(ctx, write); err != nil {
				return nil, fmt.Errorf("changing the address: %w", err)
			}
			return &customerv1.AddressChanged{}, nil
		}, codes.Internal, "the handler of acme.customer.v1.CustomerService/ChangeAddress has written through the " +
			"*sql.DB, and so waited for its own transaction: write through the tx that it is called with; nothing " +
			"was committed", "attempt"},
		{"has a larger reply than the server sends",
			func(ctx context.Context, tx *inbox.Tx) (*customerv1.AddressChanged, error) {
				_, err := tx.ExecContext(ctx, write)
				return &customerv1.AddressChanged{Customer: strings.Repeat("x", 2000)}, err
			}, codes.OutOfRange, "the reply has 2003 bytes, and at most 1000 are allowed: store the data and reply " +
				"with its name", "settled"},
	} {
		handler = test.handler
		command := participant.Command{Saga: "sagas/s", CommandID: fmt.Sprintf("sagas/s/steps/%d", step+1),
			Direction: participant.Action, Attempt: 1}
		var trailer metadata.MD
		_, err := client.ChangeAddress(command.Outgoing(t.Context()), &customerv1.ChangeAddressRequest{},
			grpc.Trailer(&trailer))
		if s := status.Convert(err); s.Code() != test.code || s.Message() != test.message {
			t.Errorf("%s: %v, want %s: %s", test.name, err, test.code, test.message)
		}
		if got := strings.Join(trailer[participant.AnswerKey], " "); got != test.mark {
			t.Errorf("%s: the mark is %q, want %s", test.name, got, test.mark)
		}
		var n int
		if err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM effects`).Scan(&n); err != nil || n != 0 {
			t.Errorf("%s: %d effects, %v; want none", test.name, n, err)
		}
	}
	for _, want := range []string{
		"level=ERROR", "through the *sql.DB", "database is locked", "command_id=sagas/s/steps/1",
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, log.String())
		}
	}
}
