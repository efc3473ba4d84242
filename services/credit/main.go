// Command credit is Acme's credit service: it decides how much a person may owe. It is a participant.
package main

import (
	"context"

	creditv1 "github.com/treatyhq/treaty/gen/acme/credit/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/services/internal/process"
	"github.com/treatyhq/treaty/services/internal/sqlitedb"
)

// keptServices are the services all of whose commands go through the inbox.
var keptServices = []string{
	creditv1.CreditService_ServiceDesc.ServiceName, privacyv1.UserDataService_ServiceDesc.ServiceName,
}

func main() {
	process.Main(process.Service{
		Name:     "credit",
		Listen:   "127.0.0.1:7103",
		Database: sqlitedb.Params{Migrations: migrations},
		Kept:     keptServices,
		Register: register,
	})
}

func register(_ context.Context, p *process.Process) error {
	service := &service{store: &store{p.Store}}
	creditv1.RegisterCreditServiceServer(p.Server, service)
	privacyv1.RegisterUserDataServiceServer(p.Server, service)
	return nil
}
