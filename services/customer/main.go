// Command customer is Acme's customer service: it knows who the customers are and where they live. It is a participant.
package main

import (
	"context"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/services/internal/process"
	"github.com/treatyhq/treaty/services/internal/sqlitedb"
)

// keptServices are the services all of whose commands go through the inbox.
var keptServices = []string{
	customerv1.CustomerService_ServiceDesc.ServiceName, privacyv1.UserDataService_ServiceDesc.ServiceName,
}

func main() {
	process.Main(process.Service{
		Name:     "customer",
		Listen:   "127.0.0.1:7101",
		Database: sqlitedb.Params{Migrations: migrations},
		Kept:     keptServices,
		Register: register,
	})
}

func register(_ context.Context, p *process.Process) error {
	service := &service{store: &store{p.Store}}
	customerv1.RegisterCustomerServiceServer(p.Server, service)
	privacyv1.RegisterUserDataServiceServer(p.Server, service)
	return nil
}
