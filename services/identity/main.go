// Command identity is Acme's identity service: it verifies that people are who they say they are. It is a participant
// that depends on a slow third party, the identity register. Unless --register-url names a register, the service plays
// one itself, on its own port.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/services/identity/thirdparty"
	"github.com/treatyhq/treaty/services/internal/process"
	"github.com/treatyhq/treaty/services/internal/sqlitedb"
)

// keptServices are the services all of whose commands go through the inbox.
var keptServices = []string{
	identityv1.IdentityService_ServiceDesc.ServiceName, privacyv1.UserDataService_ServiceDesc.ServiceName,
}

func main() {
	var s settings
	process.Main(process.Service{
		Name:     "identity",
		Listen:   "127.0.0.1:7102",
		Database: sqlitedb.Params{Migrations: migrations},
		Kept:     keptServices,
		AddFlags: s.addFlags,
		Register: s.register,
	})
}

// settings are the values of the flags that only this service has.
type settings struct {
	orchestrator    orchestrator
	registerURL     string
	latency         time.Duration
	decideAfter     time.Duration
	inspectionTakes time.Duration
}

func (s *settings) addFlags(flags *flag.FlagSet) {
	s.orchestrator.addFlags(flags)
	flags.StringVar(&s.registerURL, "register-url", "",
		"`URL` of the identity register; if empty, the service plays the register, "+
			"in the database file of --db plus \".register\"")
	flags.DurationVar(&s.latency, "register-latency", 250*time.Millisecond,
		"how long the played register takes to answer")
	flags.DurationVar(&s.decideAfter, "register-decides-after", 2*time.Second,
		"how long after a registration the played register decides and publishes its decision")
	flags.DurationVar(&s.inspectionTakes, "inspection-takes", time.Second,
		"how long the played clerk takes to inspect a passport")
}

func (s *settings) register(ctx context.Context, p *process.Process) error {
	connection, err := s.orchestrator.dial(p.Insecure)
	if err != nil {
		return err
	}
	p.OnStop(connection.Close)
	url := s.registerURL
	if url == "" {
		params := thirdparty.Params{Path: p.DatabasePath + ".register", Latency: s.latency, DecideAfter: s.decideAfter}
		if url, err = play(ctx, p, params, treatyv1.NewEventServiceClient(connection)); err != nil {
			return err
		}
	}
	register, err := newRegister(url)
	if err != nil {
		return err
	}
	store := &store{p.Store}
	inspector := newInspector(store, participant.NewCompleter(connection), s.inspectionTakes)
	service := &service{store: store, register: register, inspector: inspector}
	identityv1.RegisterIdentityServiceServer(p.Server, service)
	privacyv1.RegisterUserDataServiceServer(p.Server, service)
	p.Go(func() { inspector.run(ctx) })
	return nil
}

// play starts the third party and returns its URL.
func play(
	ctx context.Context, p *process.Process, params thirdparty.Params, publisher thirdparty.Publisher,
) (url string, err error) {
	register, err := thirdparty.Open(ctx, params)
	if err != nil {
		return "", err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", errors.Join(fmt.Errorf("starting the register: %w", err), register.Close())
	}
	server := &http.Server{Handler: register, ReadHeaderTimeout: 10 * time.Second}
	var serving sync.WaitGroup
	// It ends with ErrServerClosed. If it ends earlier, the service's calls to it fail.
	serving.Go(func() { _ = server.Serve(listener) })
	p.Go(func() { register.Run(ctx, publisher) })
	p.OnStop(func() error {
		err := server.Close()
		serving.Wait()
		return errors.Join(err, register.Close())
	})
	return "http://" + listener.Addr().String(), nil
}
