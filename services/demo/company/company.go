package company

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

// The names of the processes.
const (
	Orchestrator = "orchestrator"
	Customer     = "customer"
	Identity     = "identity"
	Credit       = "credit"
	Card         = "card"
	Notification = "notification"
)

// Participants are the names of the participants, in the order in which IssueCard needs them.
func Participants() []string { return []string{Customer, Identity, Credit, Card, Notification} }

// services are the services of the participants.
var services = map[string]string{
	Customer:     "acme.customer.v1.CustomerService",
	Identity:     "acme.identity.v1.IdentityService",
	Credit:       "acme.credit.v1.CreditService",
	Card:         "acme.card.v1.CardService",
	Notification: "acme.notification.v1.NotificationService",
}

// userData is the service in whose broadcasts all participants take part.
const userData = "acme.privacy.v1.UserDataService"

// Params configure a company.
type Params struct {
	// Dir is the directory for binaries, databases and logs. It must exist.
	Dir string

	// Programs is a directory with the programs, under the names that Binary returns. They may come from different
	// versions of this module. A process runs what is there when it starts. Empty: Open builds them in Dir.
	Programs string

	// GoOnly runs the notification service's twin in Go even if Node is installed.
	GoOnly bool

	// RegisterLatency is how long the identity service's third party takes to answer. 0 means the service's default.
	RegisterLatency time.Duration

	// RegisterDecidesAfter is how long after a registration the third party publishes its decision. 0 means the
	// service's default.
	RegisterDecidesAfter time.Duration

	// InspectionTakes is how long the identity service's clerk takes for a passport. 0 means the service's default.
	InspectionTakes time.Duration

	// Args returns arguments that are added to those of a process. It may be nil.
	Args func(process string) []string

	// Env is added to the environment of every process.
	Env []string

	// Between returns the address at which the orchestrator reaches a participant, given the participant's own. It may
	// be that of something in between. Nil: the participant's own.
	Between func(participant, address string) (string, error)

	// Verbose returns a writer for a process's output, which also goes to its log. It may be nil. It is called
	// concurrently.
	Verbose func(process string) io.Writer

	// DialOptions are added to the options of the connections to the processes.
	DialOptions []grpc.DialOption
}

// Company is a running Acme. All methods may be called concurrently.
type Company struct {
	// Dir is the directory of its data.
	Dir string

	// Programs is the directory of its programs.
	Programs string

	// NotificationAbout says which implementation of the notification service is running, and why.
	NotificationAbout string

	processes map[string]*Process
	conns     map[string]*grpc.ClientConn
	died      chan error
	close     sync.Once
	closeErr  error
}

// Open builds the programs if need be, starts them, and waits until all of them are healthy. It never returns a nil
// company: close it even if there is an error.
func Open(ctx context.Context, params Params) (*Company, error) {
	c := &Company{
		Dir: params.Dir, Programs: params.Programs, processes: make(map[string]*Process),
		conns: make(map[string]*grpc.ClientConn), died: make(chan error, 1),
	}
	if c.Programs == "" {
		c.Programs = filepath.Join(params.Dir, "bin")
		if err := os.MkdirAll(c.Programs, 0o700); err != nil {
			return c, fmt.Errorf("opening the company: %w", err)
		}
		if err := Build(ctx, c.Programs); err != nil {
			return c, err
		}
	}
	run := notification{command: []string{Binary(c.Programs, Notification)}, about: "its twin in Go, as configured"}
	if !params.GoOnly {
		var err error
		if run, err = findNotification(ctx, c.Programs); err != nil {
			return c, err
		}
	}
	c.NotificationAbout = run.about
	if err := c.plan(params, run.command); err != nil {
		return c, err
	}
	for _, name := range append(Participants(), Orchestrator) {
		if err := c.processes[name].Start(); err != nil {
			return c, err
		}
	}
	return c, c.Ready(ctx)
}

// plan sets the address, the data and the connection of each process.
func (c *Company) plan(params Params, notification []string) error {
	names := append(Participants(), Orchestrator)
	addresses, err := freeAddresses(len(names))
	if err != nil {
		return err
	}
	// The identity service calls the orchestrator, so all addresses must be known before any process starts.
	orchestrator := []string{Binary(c.Programs, Orchestrator), "--store", c.Store()}
	for i, name := range names {
		p := &Process{
			Name: name, Address: addresses[i], Log: c.file(name + ".log"), died: c.died,
			env: append([]string{"OTEL_SERVICE_NAME="}, params.Env...),
		}
		switch name {
		case Orchestrator:
			p.args = append(orchestrator, "--listen", p.Address)
			// Not as a flag, which the orchestrators of earlier versions don't know.
			p.env = append(p.env, "TREATY_BROADCAST="+userData+"="+strings.Join(takingPart(), ","))
		case Notification:
			p.args = append(append([]string(nil), notification...), "--listen", p.Address, "--db", c.Database(name))
		default:
			p.args = []string{Binary(c.Programs, name), "--listen", p.Address, "--db", c.Database(name)}
		}
		if name == Identity {
			p.args = append(p.args, params.identity(addresses[len(names)-1])...)
		}
		if params.Args != nil {
			p.args = append(p.args, params.Args(name)...)
		}
		if services[name] != "" {
			reached := p.Address
			if params.Between != nil {
				if reached, err = params.Between(name, p.Address); err != nil {
					return fmt.Errorf("putting something in front of %s: %w", name, err)
				}
			}
			orchestrator = append(orchestrator, "--participant", services[name]+"="+reached)
		}
		if params.Verbose != nil {
			p.verbose = params.Verbose(name)
		}
		c.processes[name] = p
		options := append([]grpc.DialOption{
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDisableRetry(),
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff: backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2,
					MaxDelay: 200 * time.Millisecond},
				MinConnectTimeout: 2 * time.Second,
			}),
		}, params.DialOptions...)
		if c.conns[name], err = grpc.NewClient("passthrough:///"+p.Address, options...); err != nil {
			return fmt.Errorf("connecting to %s: %w", name, err)
		}
	}
	return nil
}

// takingPart returns the services of all participants.
func takingPart() []string {
	var names []string
	for _, name := range Participants() {
		names = append(names, services[name])
	}
	return names
}

// identity returns the flags that only the identity service has.
func (p *Params) identity(orchestrator string) []string {
	flags := []string{"--orchestrator", orchestrator}
	for _, one := range []struct {
		flag  string
		value time.Duration
	}{
		{"--register-latency", p.RegisterLatency}, {"--register-decides-after", p.RegisterDecidesAfter},
		{"--inspection-takes", p.InspectionTakes},
	} {
		if one.value > 0 {
			flags = append(flags, one.flag, one.value.String())
		}
	}
	return flags
}

func (c *Company) file(name string) string { return filepath.Join(c.Dir, name) }

// Database returns the file of a participant's database.
func (c *Company) Database(name string) string { return c.file(name + ".db") }

// Process returns a process by its name.
func (c *Company) Process(name string) *Process { return c.processes[name] }

// Processes returns all processes, the orchestrator last.
func (c *Company) Processes() []*Process {
	all := make([]*Process, 0, len(c.processes))
	for _, name := range append(Participants(), Orchestrator) {
		if p := c.processes[name]; p != nil {
			all = append(all, p)
		}
	}
	return all
}

// Conn returns the connection to a process. It reconnects when the process comes back.
func (c *Company) Conn(name string) *grpc.ClientConn { return c.conns[name] }

// Died receives a DiedError if a process ends on its own.
func (c *Company) Died() <-chan error { return c.died }

// Ready waits until all processes are healthy.
func (c *Company) Ready(ctx context.Context) error {
	for _, p := range c.Processes() {
		if err := c.ReadyProcess(ctx, p.Name); err != nil {
			return err
		}
	}
	return nil
}

// ReadyProcess waits until one process is healthy. If the process ends instead, it returns a DiedError.
func (c *Company) ReadyProcess(ctx context.Context, name string) error {
	p := c.processes[name]
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	gone := p.gone()
	go func() {
		select {
		case <-gone:
			cancel(&DiedError{Process: p, Cause: errors.New("it ended before it was ready")})
		case <-ctx.Done():
		}
	}()
	client := healthv1.NewHealthClient(c.conns[name])
	for ctx.Err() == nil {
		watch, err := client.Watch(ctx, &healthv1.HealthCheckRequest{}, grpc.WaitForReady(true))
		for err == nil {
			var now *healthv1.HealthCheckResponse
			if now, err = watch.Recv(); err == nil && now.GetStatus() == healthv1.HealthCheckResponse_SERVING {
				return nil
			}
		}
	}
	return p.waitError(ctx)
}

// Close ends all processes, the orchestrator first, and closes the connections. The data stays. It may be called more
// than once.
func (c *Company) Close() error {
	c.close.Do(func() {
		all := c.Processes()
		var errs []error
		if p := c.processes[Copy]; p != nil {
			errs = append(errs, p.Stop())
		}
		for _, a := range slices.Backward(all) {
			errs = append(errs, a.Stop())
		}
		for _, conn := range c.conns {
			errs = append(errs, conn.Close())
		}
		c.closeErr = errors.Join(errs...)
	})
	return c.closeErr
}
