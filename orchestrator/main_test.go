package orchestrator

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// runProgram runs Main's program until it has printed that it serves, or ended by itself.
func runProgram(t *testing.T, env map[string]string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out, errs bytes.Buffer
	code = program{
		name: "acme", args: args, stderr: &errs, getenv: func(name string) string { return env[name] },
		stdout: io.MultiWriter(&out, writerFunc(func(line []byte) {
			if strings.Contains(string(line), " serving on ") {
				cancel()
			}
		})),
		register: register,
	}.run(ctx)
	return code, out.String(), errs.String()
}

type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) { f(b); return len(b), nil }

func register(r saga.Registrar) {
	saga.Register(r, customerv1.CustomerSagas_ChangeAddress_FullMethodName,
		func(saga.Context, *customerv1.ChangeAddressSagaRequest) (*customerv1.AddressAgreed, error) {
			return &customerv1.AddressAgreed{}, nil
		})
}

func TestProgramServesUntilItIsStopped(t *testing.T) {
	store := filepath.Join(t.TempDir(), "treaty.db")
	for name, test := range map[string]struct {
		env  map[string]string
		args []string
	}{
		"flags": {args: []string{"--listen", "127.0.0.1:0", "--store", store, "--participant",
			"acme.customer.v1.CustomerService=127.0.0.1:1"}},
		"serve": {args: []string{"serve", "--listen=127.0.0.1:0", "--store=" + store, "--log-format=json",
			"--log-level=debug"}},
		"environment": {env: map[string]string{"TREATY_LISTEN": "127.0.0.1:0", "TREATY_STORE": store,
			"TREATY_PARTICIPANT":     "acme.customer.v1.CustomerService=127.0.0.1:1; ",
			"TREATY_PARENT_IDENTITY": "spiffe://acme.example/sagas; *", "TREATY_SAGA_ID_RETENTION": "720h"}},
		"flag wins": {env: map[string]string{"TREATY_LISTEN": "nonsense", "TREATY_STORE": store},
			args: []string{"--listen", "127.0.0.1:0"}},
		"insecure": {args: []string{"--listen", "0.0.0.0:0", "--store", store, "--insecure"}},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := runProgram(t, test.env, test.args...)
			if code != ExitOK {
				t.Fatalf("exit %d: %s", code, stderr)
			}
			want := regexp.MustCompile(
				`^acme serving on (127\.0\.0\.1|\[::\]):\d+ \(plaintext\); store /.*/treaty\.db; 0 sagas recovered\n$`)
			if !want.MatchString(stdout) {
				t.Errorf("stdout %q", stdout)
			}
		})
	}
}

func TestProgramRefuses(t *testing.T) {
	taken := testkit.Listen(t)
	store := "--store=" + filepath.Join(t.TempDir(), "treaty.db")
	for name, test := range map[string]struct {
		env  map[string]string
		args []string
		code int
		want string
	}{
		"unknown flag":    {args: []string{"--nope"}, code: ExitUsage, want: "unknown flag: --nope"},
		"unknown command": {args: []string{"nope"}, code: ExitUsage, want: `unknown command "nope"`},
		"too much":        {args: []string{"serve", "nope"}, code: ExitUsage, want: `unknown command "nope"`},
		"participant": {args: []string{"--participant", "127.0.0.1:1"}, code: ExitUsage,
			want: "want SERVICE[,SERVICE...]=HOST:PORT"},
		"participant's name": {args: []string{"--participant", "acme/x=127.0.0.1:1"}, code: ExitUsage,
			want: `"acme/x" isn't a service`},
		"participant without a port": {
			args: []string{store, "--participant", "acme.customer.v1.CustomerService=127.0.0.1"}, code: ExitFailure,
			want: `participant acme.customer.v1.CustomerService: "127.0.0.1" has no port: write host:port, ` +
				`such as 127.0.0.1:7101`,
		},
		"unknown participant": {args: []string{"--participant", "acme.v1.X=127.0.0.1:1"}, code: ExitFailure,
			want: `no linked contract has a service "acme.v1.X"`},
		"broadcast": {args: []string{"--broadcast", "acme.privacy.v1.UserDataService"}, code: ExitUsage,
			want: "want SERVICE=PARTICIPANT[,PARTICIPANT...]"},
		"broadcasts in the environment": {
			env:  map[string]string{"TREATY_BROADCAST": "acme.v1.X=acme.v1.Y;z"},
			code: ExitUsage, want: `"z" names nobody`,
		},
		"identity": {args: []string{"--participant-identity", "acme.identity.v1.IdentityService"}, code: ExitUsage,
			want: "want SERVICE=IDENTITY"},
		"identities in the environment": {
			env:  map[string]string{"TREATY_PARTICIPANT_IDENTITY": "acme.v1.X=spiffe://acme.example/x;acme.v1.X=y z"},
			code: ExitUsage, want: `"z" names no identity`,
		},
		"identity without certificates": {
			args: []string{store, "--participant", "acme.customer.v1.CustomerService=127.0.0.1:1",
				"--participant-identity", "acme.customer.v1.CustomerService=spiffe://acme.example/customer"},
			code: ExitFailure, want: "need client certificates",
		},
		"parent's identity without certificates": {
			args: []string{store, "--parent-identity", "spiffe://acme.example/sagas"},
			code: ExitFailure, want: "identities of parents' orchestrators need client certificates",
		},
		"keys of several issuers": {
			args: []string{store, "--token-keys", "keys.json", "--token-audience", "treaty"},
			env:  map[string]string{"TREATY_TOKEN_ISSUER": "https://a.example;https://b.example"},
			code: ExitFailure, want: "the keys in keys.json belong to one issuer, and there are 2",
		},
		"tokens for anybody": {args: []string{store, "--token-issuer", "https://a.example"}, code: ExitFailure,
			want: "tokens: no audience"},
		"a policy that isn't there": {args: []string{store, "--policy", "none.yaml"}, code: ExitFailure,
			want: "reading the policy: open none.yaml"},
		"ids of sagas": {args: []string{store, "--saga-id-retention", "1h"}, code: ExitFailure,
			want: "at least 48h0m0s"},
		"environment": {env: map[string]string{"TREATY_INSECURE": "perhaps"}, code: ExitUsage,
			want: "TREATY_INSECURE"},
		"retention": {args: []string{"--retention", "-1h"}, code: ExitUsage,
			want: `"--retention" flag: want a time`},
		"event retention": {env: map[string]string{"TREATY_EVENT_RETENTION": "-1h"}, code: ExitUsage,
			want: "TREATY_EVENT_RETENTION"},
		"no retention": {args: []string{"--retention", "soon"}, code: ExitUsage, want: `"soon"`},
		"level":        {args: []string{"--log-level", "loud"}, code: ExitUsage, want: "--log-level"},
		"format":       {args: []string{"--log-format", "xml"}, code: ExitUsage, want: "--log-format"},
		"key without": {args: []string{store, "--tls-key", "key.pem"}, code: ExitFailure,
			want: "both a certificate and its key"},
		"beyond this machine": {args: []string{store, "--listen", "0.0.0.0:0"}, code: ExitFailure, want: "has no TLS"},
		"port in use": {args: []string{store, "--listen", taken.Addr().String()}, code: ExitFailure,
			want: "the port is in use"},
		"no authority": {args: []string{store, "--listen", "127.0.0.1:0", "--participant-tls-ca", "nope.pem",
			"--participant", "acme.customer.v1.CustomerService=a:1"}, code: ExitFailure, want: "nope.pem"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := runProgram(t, test.env, test.args...)
			if code != test.code || !strings.Contains(stderr, test.want) || stdout != "" {
				t.Errorf("exit %d, stdout %q, stderr %q; want exit %d and %q", code, stdout, stderr, test.code,
					test.want)
			}
			lines := strings.Count(strings.TrimSuffix(stderr, "\n"), "\n") + 1
			if most := 1; test.code == ExitFailure && lines > most || lines > 2 ||
				strings.Contains(stderr, "goroutine") {
				t.Errorf("stderr has %d lines: %s", lines, stderr)
			}
		})
	}
}

func TestHelpSaysWhatInsecureGivesUp(t *testing.T) {
	code, stdout, _ := runProgram(t, nil, "--help")
	for _, want := range []string{"--listen", "TREATY_LISTEN", "--broadcast", "--participant-tls-ca",
		"Gives up confidentiality and authentication", "127.0.0.1:7080", "treaty.db"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("help doesn't say %q:\n%s", want, stdout)
		}
	}
	if code != ExitOK {
		t.Errorf("exit %d", code)
	}
}

// Who allows plaintext and gives a certificate learns which of the two counts.
func TestInsecureBesideCertificate(t *testing.T) {
	for name, test := range map[string]struct {
		settings settings
		want     string // in the log; empty for none
	}{
		"alone":             {settings{insecure: true}, ""},
		"certificate alone": {settings{tlsCert: "cert.pem"}, ""},
		"both":              {settings{insecure: true, tlsCert: "cert.pem"}, "allows plaintext to participants"},
		"and participants' TLS": {
			settings{insecure: true, tlsCert: "cert.pem", participantTLS: new(ParticipantTLS)},
			"no effect on participants either",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			test.settings.warnAboutInsecure(slog.New(slog.NewTextHandler(&log, nil)))
			if test.want == "" && log.Len() > 0 || !strings.Contains(log.String(), test.want) {
				t.Errorf("log %q, want %q", log.String(), test.want)
			}
		})
	}
}

func TestOnlyThisMachine(t *testing.T) {
	for _, test := range []struct {
		addr net.Addr
		want bool
	}{
		{&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, true},
		{&net.TCPAddr{IP: net.IPv6loopback}, true},
		{&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1)}, false},
		{&net.TCPAddr{}, false},
		{&net.UnixAddr{Name: "/run/treaty", Net: "unix"}, true},
		{&net.IPAddr{IP: net.IPv4(127, 0, 0, 1)}, false},
	} {
		if got := local(test.addr); got != test.want {
			t.Errorf("%v: %v", test.addr, got)
		}
	}
}

// A program finds the store that an earlier one left behind.
func TestProgramServesSagas(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	lines := make(chan string, 1)
	done := make(chan int, 1)
	store := filepath.Join(t.TempDir(), "treaty.db")
	go func() {
		done <- program{
			name: "acme", args: []string{"--listen", "127.0.0.1:0", "--store", store},
			stderr: io.Discard,
			stdout: writerFunc(func(line []byte) { lines <- string(line) }), getenv: func(string) string { return "" },
			register: register,
		}.run(ctx)
	}()
	address := strings.Fields(<-lines)[3]
	conn := testkit.Dial(t, address)
	if _, err := customerv1.NewCustomerSagasClient(conn).ChangeAddress(ctx,
		&customerv1.ChangeAddressSagaRequest{}); err != nil {
		t.Error(err)
	}
	listed, err := treatyv1.NewSagaServiceClient(conn).ListSagas(ctx, &treatyv1.ListSagasRequest{})
	if err != nil || len(listed.GetSagas()) != 1 {
		t.Errorf("%v, %v", listed, err)
	}
	cancel()
	if code := <-done; code != ExitOK {
		t.Errorf("exit %d", code)
	}
}

// TestProgramWritesKeys writes keys, rotates them, and serves a store with them and then without.
func TestProgramWritesKeys(t *testing.T) {
	dir := t.TempDir()
	file, store := filepath.Join(dir, "keys.json"), filepath.Join(dir, "treaty.db")
	for _, test := range []struct {
		args           []string
		code           int
		stdout, stderr string
	}{
		{[]string{"keys", "new"}, ExitUsage, "", "--store-keys is missing"},
		{[]string{"keys", "rotate", "--store-keys", file}, ExitFailure, "", "keys new"},
		{[]string{"keys", "new", "--store-keys", file}, ExitOK, "has the new key ", ""},
		{[]string{"keys", "new", "--store-keys", file}, ExitFailure, "", "file already exists"},
		{[]string{"keys", "rotate", "--store-keys", file}, ExitOK, "has the new primary key ", ""},
		{[]string{"--listen=127.0.0.1:0", "--store", store, "--store-keys", file}, ExitOK, "serving", ""},
		{[]string{"--listen=127.0.0.1:0", "--store", store, "--store-keys", store}, ExitFailure, "",
			"reading the keys"},
	} {
		code, stdout, stderr := runProgram(t, nil, test.args...)
		if code != test.code || !strings.Contains(stdout, test.stdout) || !strings.Contains(stderr, test.stderr) {
			t.Errorf("%q: exit %d, %q, %q; want %d, %q, %q", test.args, code, stdout, stderr, test.code, test.stdout,
				test.stderr)
		}
	}
}
