// Command card is Acme's card service: it issues credit cards and knows where to post them. It is a participant.
package main

import (
	"context"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/services/internal/process"
	"github.com/treatyhq/treaty/services/internal/sqlitedb"
)

// keptServices are the services all of whose commands go through the inbox.
var keptServices = []string{
	cardv1.CardService_ServiceDesc.ServiceName, privacyv1.UserDataService_ServiceDesc.ServiceName,
}

func main() {
	process.Main(process.Service{
		Name:     "card",
		Listen:   "127.0.0.1:7104",
		Database: sqlitedb.Params{Migrations: migrations},
		Kept:     keptServices,
		Register: register,
	})
}

func register(_ context.Context, p *process.Process) error {
	service := &service{store: &store{p.Store}}
	cardv1.RegisterCardServiceServer(p.Server, service)
	privacyv1.RegisterUserDataServiceServer(p.Server, service)
	return nil
}
