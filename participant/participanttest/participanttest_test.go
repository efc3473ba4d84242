package participanttest_test

import (
	"context"
	"path/filepath"
	"testing"

	_ "github.com/ncruces/go-sqlite3/driver" // registers the "sqlite3" driver
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/participant/inbox"
	"github.com/treatyhq/treaty/participant/participanttest"
)

// service is a participant whose commands have no effect outside of the inbox.
type service struct {
	customerv1.UnimplementedCustomerServiceServer

	inbox *inbox.Inbox
}

func (s *service) ChangeAddress(
	ctx context.Context, r *customerv1.ChangeAddressRequest,
) (*customerv1.AddressChanged, error) {
	return inbox.Handle(ctx, s.inbox, func(*inbox.Tx) (*customerv1.AddressChanged, error) {
		return &customerv1.AddressChanged{Customer: r.GetCustomer()}, nil
	})
}

func (s *service) RestoreAddress(
	ctx context.Context, _ *customerv1.RestoreAddressRequest,
) (*customerv1.AddressRestored, error) {
	return inbox.Handle(ctx, s.inbox, func(*inbox.Tx) (*customerv1.AddressRestored, error) {
		return &customerv1.AddressRestored{}, nil
	})
}

func TestServeAndReadLedger(t *testing.T) {
	path := filepath.Join(t.TempDir(), "customer.db")
	db, err := inbox.OpenSQLiteDB(inbox.SQLiteDSN(path))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	in, err := inbox.OpenSQLite(t.Context(), db, inbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	client := customerv1.NewCustomerServiceClient(participanttest.Serve(t, func(r grpc.ServiceRegistrar) {
		customerv1.RegisterCustomerServiceServer(r, &service{inbox: in})
	}))

	request := &customerv1.ChangeAddressRequest{Customer: "customers/1"}
	for range 2 {
		if _, err := client.ChangeAddress(participanttest.Action(t.Context(), "s1", 3), request); err != nil {
			t.Fatal(err)
		}
	}
	undo := &customerv1.RestoreAddressRequest{Action: request}
	if _, err := client.RestoreAddress(participanttest.Compensation(t.Context(), "s2", 1), undo); err != nil {
		t.Fatal(err)
	}
	_, err = client.ChangeAddress(participanttest.Action(t.Context(), "s2", 1), request)
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a late action: %v, want FAILED_PRECONDITION", err)
	}

	rows, err := participanttest.ReadLedger(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	want := []participanttest.Row{
		{CommandID: "sagas/s1/steps/3", Direction: participant.Action, Verdict: "executed", Duplicates: 1},
		{CommandID: "sagas/s2/steps/1", Direction: participant.Compensation, Verdict: "null-compensated"},
		{CommandID: "sagas/s2/steps/1", Direction: participant.Action, Verdict: "refused-late"},
	}
	if len(rows) != len(want) {
		t.Fatalf("%d rows, want %d: %+v", len(rows), len(want), rows)
	}
	for i, row := range rows {
		w := want[i]
		if row.CommandID != w.CommandID || row.Direction != w.Direction || row.Verdict != w.Verdict ||
			row.Duplicates != w.Duplicates || row.Epoch != 1 || row.ExecutedAt.IsZero() {
			t.Errorf("row %d is %+v, want %+v", i, row, w)
		}
	}
}

func TestReadLedgerWithoutDatabase(t *testing.T) {
	if _, err := participanttest.ReadLedger(t.Context(), filepath.Join(t.TempDir(), "none.db")); err == nil {
		t.Error("got no error for a database that doesn't exist")
	}
}
