//go:build proof

package proof

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/services/demo/company"
)

// spire is a real SPIRE server with one agent. The agent knows a workload by the path of its program.
type spire struct {
	dir, server, agent string // the directory of everything, and the sockets
	programs           string // the directory of SPIRE's programs
}

// startSpire starts a server and an agent, which end with the test.
func startSpire(ctx context.Context, t *testing.T) *spire {
	t.Helper()
	programs, err := filepath.Abs(filepath.Join("..", "bin", "spire"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(programs, "spire-server")); err != nil {
		t.Fatalf("there is no SPIRE: make bin/spire builds it: %v", err)
	}
	dir, err := os.MkdirTemp("", "spire") // a path that is short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &spire{
		dir: dir, programs: programs,
		server: filepath.Join(dir, "server.sock"), agent: filepath.Join(dir, "agent.sock"),
	}
	_, port, _ := strings.Cut(testkit.UnusedAddress(t), ":")
	config := testkit.WriteFile(t, dir, "server.conf", fmt.Appendf(nil, `
server {
	bind_address = "127.0.0.1"
	bind_port = "%s"
	socket_path = "%s"
	trust_domain = "acme.example"
	data_dir = "%s"
	default_x509_svid_ttl = "20s"
	log_level = "WARN"
}
plugins {
	DataStore "sql" { plugin_data { database_type = "sqlite3" connection_string = "%s/server.db" } }
	KeyManager "memory" { plugin_data {} }
	NodeAttestor "join_token" { plugin_data {} }
}`, port, s.server, dir, dir))
	s.run(t, "spire-server", "run", "-config", config)
	s.await(ctx, t, "spire-server", "healthcheck", "-socketPath", s.server)
	out := s.ask(ctx, t, "spire-server", "token", "generate", "-socketPath", s.server,
		"-spiffeID", trustDomain+"host")
	token := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(out), "Token:"))
	config = testkit.WriteFile(t, dir, "agent.conf", fmt.Appendf(nil, `
agent {
	server_address = "127.0.0.1"
	server_port = "%s"
	socket_path = "%s"
	trust_domain = "acme.example"
	data_dir = "%s/agent"
	insecure_bootstrap = true
	log_level = "WARN"
}
plugins {
	KeyManager "memory" { plugin_data {} }
	NodeAttestor "join_token" { plugin_data {} }
	WorkloadAttestor "unix" { plugin_data { discover_workload_path = true } }
}`, port, s.agent, dir))
	s.run(t, "spire-agent", "run", "-config", config, "-joinToken", token)
	s.await(ctx, t, "spire-agent", "healthcheck", "-socketPath", s.agent)
	return s
}

// run starts a program, which ends with the test. Its output is logged if the test fails.
func (s *spire) run(t *testing.T, program string, args ...string) {
	t.Helper()
	path := program
	if !filepath.IsAbs(path) {
		path = filepath.Join(s.programs, program)
	}
	s.start(t, exec.Command(path, args...), io.Discard)
}

// start starts a command, which ends with the test.
func (s *spire) start(t *testing.T, command *exec.Cmd, output io.Writer) {
	t.Helper()
	log := new(lockedText)
	command.Stdout, command.Stderr = io.MultiWriter(log, output), log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		_ = command.Wait()
		if t.Failed() {
			t.Logf("%s: %s", filepath.Base(command.Path), log)
		}
	})
}

// ask runs a program to its end and returns its output.
func (s *spire) ask(ctx context.Context, t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(ctx, filepath.Join(s.programs, program), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", program, args, err, out)
	}
	return string(out)
}

// await runs a program until it succeeds.
func (s *spire) await(ctx context.Context, t *testing.T, program string, args ...string) {
	t.Helper()
	for {
		out, err := exec.CommandContext(ctx, filepath.Join(s.programs, program), args...).CombinedOutput()
		switch {
		case err == nil:
			return
		case ctx.Err() != nil:
			t.Fatalf("%s %q: %v\n%s", program, args, err, out)
		}
	}
}

// svids are the files of a workload.
type svids struct {
	cert, key, bundle string

	renewals atomic.Int64 // how often they were written
}

// workload registers a workload under its name and keeps its SVID in files. It returns when they are there.
func (s *spire) workload(ctx context.Context, t *testing.T, name string) *svids {
	t.Helper()
	dir := filepath.Join(s.dir, name)
	program := filepath.Join(dir, "svid")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	// The agent knows a program by its path, so each workload has its own copy.
	if err := os.Link(filepath.Join(s.programs, "svid"), program); err != nil {
		code, err := os.ReadFile(filepath.Join(s.programs, "svid"))
		if err == nil {
			err = os.WriteFile(program, code, 0o700)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	s.ask(ctx, t, "spire-server", "entry", "create", "-socketPath", s.server, "-parentID", trustDomain+"host",
		"-spiffeID", trustDomain+name, "-selector", "unix:path:"+program, "-dns", "localhost")
	files := &svids{
		cert: filepath.Join(dir, "svid.pem"), key: filepath.Join(dir, "svid.key"),
		bundle: filepath.Join(dir, "bundle.pem"),
	}
	written := make(chan struct{})
	reader, writer := io.Pipe()
	go func() {
		for lines := bufio.NewScanner(reader); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "wrote "+trustDomain+name+" ") && files.renewals.Add(1) == 1 {
				close(written)
			}
		}
	}()
	s.start(t, exec.Command(program, "--socket", "unix://"+s.agent, "--dir", dir), writer)
	select {
	case <-written:
	case <-ctx.Done():
		t.Fatalf("there is no SVID for %s", name)
	}
	return files
}

// credentials returns the credentials of a client with an SVID, which it reads at each connection.
func (f *svids) credentials(t *testing.T) credentials.TransportCredentials {
	t.Helper()
	bundle, err := os.ReadFile(f.bundle)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(bundle)
	return credentials.NewTLS(&tls.Config{
		RootCAs: pool, ServerName: "localhost", MinVersion: tls.VersionTLS12,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(f.cert, f.key)
			return &pair, err
		},
	})
}

// lockedText collects the output of a program.
type lockedText struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String returns the output.
func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// policyOfSpire lets one workload do all that the test does.
const policyOfSpire = `grants:
- principals: ` + trustDomain + `operator
  roles: [starter, viewer]
  definitions: "*"
`

// TestSpire runs a company whose processes have identities from a real SPIRE, which are valid for 20 seconds. Sagas run
// while each is renewed several times.
func TestSpire(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	s := startSpire(ctx, t)
	names := append(company.Participants(), company.Orchestrator)
	files := make(map[string]*svids)
	for _, name := range append(names, "operator", "stranger") {
		files[name] = s.workload(ctx, t, name)
	}
	policy := testkit.WriteFile(t, s.dir, "policy.yaml", []byte(policyOfSpire))
	acme, err := company.Open(ctx, company.Params{
		Dir: t.TempDir(), GoOnly: true,
		Between: func(_, address string) (string, error) {
			_, port, _ := strings.Cut(address, ":")
			return "localhost:" + port, nil // the SVIDs have this name, and no address
		},
		Args: func(name string) []string {
			f := files[name]
			args := []string{"--tls-cert", f.cert, "--tls-key", f.key, "--tls-client-ca", f.bundle}
			switch name {
			case company.Orchestrator:
				return append(args, "--participant-tls-ca", f.bundle, "--participant-tls-cert", f.cert,
					"--participant-tls-key", f.key, "--policy", policy)
			case company.Identity:
				args = append(args, "--orchestrator-tls-ca", f.bundle, "--orchestrator-tls-cert", f.cert,
					"--orchestrator-tls-key", f.key)
			}
			return append(args, "--orchestrator-identity", trustDomain+company.Orchestrator)
		},
		DialOptions: []grpc.DialOption{grpc.WithTransportCredentials(files["operator"].credentials(t))},
	})
	t.Cleanup(func() {
		if err := acme.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			showLogs(t, acme)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	_, customers := createCustomers(ctx, t, acme, "Mover")
	stranger := customerv1.NewCustomerSagasClient(testkit.Dial(t, acme.Process(company.Orchestrator).Address,
		grpc.WithTransportCredentials(files["stranger"].credentials(t))))
	move := func(client customerv1.CustomerSagasClient, customer string, number int) error {
		_, err := client.ChangeAddress(ctx, &customerv1.ChangeAddressSagaRequest{
			RequestId: fmt.Sprint(customer, number), Customer: customer,
			Address: &customerv1.Address{Lines: []string{fmt.Sprint("Street ", number)}, City: "Delft", Country: "NL"},
		})
		return err
	}
	if err := move(stranger, customers[0], 0); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a stranger started a saga: %v", err)
	}
	client := customerv1.NewCustomerSagasClient(acme.Conn(company.Orchestrator))
	sagas, cut := 0, 0
	began := renewals(files, names)
	for !renewed(files, names, began, 4) {
		sagas++
		err := move(client, customers[sagas%len(customers)], sagas)
		for status.Code(err) == codes.Unavailable {
			cut++ // the orchestrator closes a connection when its client's SVID expires
			err = move(client, customers[sagas%len(customers)], sagas)
		}
		if err != nil {
			t.Fatalf("saga %d failed: %v", sagas, err)
		}
	}
	undone, err := treatyv1.NewSagaServiceClient(acme.Conn(company.Orchestrator)).ListSagas(ctx,
		&treatyv1.ListSagasRequest{Filter: `state != "SUCCEEDED"`})
	if err != nil || len(undone.GetSagas()) > 0 {
		t.Errorf("sagas that didn't succeed: %v, %v", undone.GetSagas(), err)
	}
	if sagas < 100 {
		t.Errorf("only %d sagas ran while the SVIDs were renewed", sagas)
	}
	if cut == 0 || cut > 100 {
		t.Errorf("%d calls were cut off, want one for each connection that outlived its client's SVID", cut)
	}
	t.Logf("%d sagas succeeded while each process's SVID was renewed at least 4 times; %d calls were repeated, since "+
		"their connection ended with the SVID", sagas, cut)
}

// renewals returns how often the SVID of each process was written.
func renewals(files map[string]*svids, names []string) map[string]int64 {
	counts := make(map[string]int64)
	for _, name := range names {
		counts[name] = files[name].renewals.Load()
	}
	return counts
}

// renewed returns whether the SVID of each process was written so often since then.
func renewed(files map[string]*svids, names []string, since map[string]int64, often int64) bool {
	for name, count := range renewals(files, names) {
		if count < since[name]+often {
			return false
		}
	}
	return true
}
