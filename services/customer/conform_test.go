package main

import (
	"context"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/participant/inbox"
	"github.com/treatyhq/treaty/participant/participanttest"
	"github.com/treatyhq/treaty/services/internal/sqlitedb"
)

// TestConform sends the service's commands twice, late, in the wrong order and over restarts.
func TestConform(t *testing.T) {
	path := filepath.Join(t.TempDir(), "customer.db")
	var (
		customers *store
		server    *participanttest.Server
	)
	begin := func() *grpc.ClientConn {
		opened, err := sqlitedb.OpenStore(t.Context(), sqlitedb.Params{Path: path, Migrations: migrations},
			inbox.Options{Methods: keptServices})
		if err != nil {
			t.Fatal(err)
		}
		customers = &store{opened}
		server = participanttest.Start(t, func(r grpc.ServiceRegistrar) {
			customerv1.RegisterCustomerServiceServer(r, &service{store: customers})
		}, opened.Inbox)
		return server.Connection
	}
	end := func() {
		server.Stop()
		if err := customers.Close(); err != nil {
			t.Error(err)
		}
	}
	connection := begin()
	defer func() { end() }()
	name := create(t, customerv1.NewCustomerServiceClient(connection))
	count := func(query string) func(context.Context) (int, error) {
		return func(ctx context.Context) (n int, err error) {
			err = customers.DB.QueryRowContext(ctx, query).Scan(&n)
			return n, err
		}
	}

	participanttest.Conform(t, participanttest.Conformance{
		Connection: connection,
		Restart: func() *grpc.ClientConn {
			end()
			return begin()
		},
		Commands: []participanttest.CommandCase{{
			Method: customerv1.CustomerService_ChangeAddress_FullMethodName,
			Request: func(unique string) proto.Message {
				return &customerv1.ChangeAddressRequest{Customer: name, Address: address("Oude Delft " + unique)}
			},
			Refused: func(string) proto.Message {
				return &customerv1.ChangeAddressRequest{Customer: "customers/nobody", Address: address("Oude Delft 1")}
			},
			Effects: count(`SELECT count(*) FROM addresses WHERE undone = 0`),
		}, {
			Method: customerv1.CustomerService_CreateCustomer_FullMethodName,
			Request: func(unique string) proto.Message {
				return &customerv1.CreateCustomerRequest{
					DisplayName: "Grace", Email: unique + "@example.com", Address: address("Oude Delft 2"),
				}
			},
			Refused: func(string) proto.Message { return ada() },
			Effects: count(`SELECT count(*) FROM customers`),
		}, {
			Method:  customerv1.CustomerService_GetCustomer_FullMethodName,
			Request: func(string) proto.Message { return &customerv1.GetCustomerRequest{Name: name} },
		}},
		Except: []string{privacyv1.UserDataService_ServiceDesc.ServiceName + "/DeleteUserData"},
	})
}
