// Command go is the Go twin of Acme's notification service, for machines without Node. It has the same contract and the
// same database file as the service in TypeScript, so either can replace the other.
package main

import (
	"context"

	notificationv1 "github.com/treatyhq/treaty/gen/acme/notification/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/services/internal/process"
	"github.com/treatyhq/treaty/services/internal/sqlitedb"
)

// keptServices are the services all of whose commands go through the inbox.
var keptServices = []string{
	notificationv1.NotificationService_ServiceDesc.ServiceName, privacyv1.UserDataService_ServiceDesc.ServiceName,
}

func main() {
	process.Main(process.Service{
		Name:   "notification",
		Listen: "127.0.0.1:7105",
		// The SQLite of the twin in TypeScript can't open a file in WAL mode.
		Database: sqlitedb.Params{Migrations: migrations, Journal: sqlitedb.Rollback},
		Kept:     keptServices,
		Register: register,
	})
}

func register(_ context.Context, p *process.Process) error {
	service := &service{store: &store{p.Store}}
	notificationv1.RegisterNotificationServiceServer(p.Server, service)
	privacyv1.RegisterUserDataServiceServer(p.Server, service)
	return nil
}
