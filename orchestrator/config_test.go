package orchestrator

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/treatyhq/treaty/internal/testkit"
)

// configuredFlags returns the flags as a program has them after its command line, its environment and its file.
func configuredFlags(t *testing.T, env map[string]string, args ...string) (*flags, error) {
	t.Helper()
	set, f := pflag.NewFlagSet("acme", pflag.ContinueOnError), new(flags)
	f.register(set)
	if err := set.Parse(args); err != nil {
		t.Fatal(err)
	}
	if err := fromEnvironment(set, func(name string) string { return env[name] }); err != nil {
		t.Fatal(err)
	}
	return f, f.fromFile(set)
}

func diffFlags(want, got *flags) string {
	return cmp.Diff(*want, *got, cmp.AllowUnexported(flags{}, participant{}, broadcast{}, participantIdentity{},
		limitFlag{}, limits{}, tokenFlags{}, healthFlags{}),
		cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "config" }, cmp.Ignore()))
}

// TestConfigFile tests that the documented file means the same as the flags.
func TestConfigFile(t *testing.T) {
	got, err := configuredFlags(t, nil, "--config", "testdata/orchestrator.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want, err := configuredFlags(t, nil,
		"--listen=127.0.0.1:7080", "--store=/var/lib/acme/treaty.db", "--retention=720h",
		"--participant=acme.customer.v1.CustomerService=127.0.0.1:7101",
		"--participant-limit=acme.customer.v1.CustomerService=200,50/s",
		"--participant=acme.card.v1.CardService,acme.card.v1.TrackingService=card.acme.example:7104",
		"--answers=acme.card.v1.CardService=proven", "--commands=acme.card.v1.CardService=unary",
		"--contracts=acme.card.v1.CardService=strict",
		"--participant-identity=acme.card.v1.CardService=spiffe://acme.example/card",
		"--broadcast=acme.privacy.v1.UserDataService=acme.card.v1.CardService",
		"--participant=acme.credit.v1.CreditService=127.0.0.1:7103",
		"--start-limit=acme.card.v1.CardSagas/IssueCard=10000,100/s", "--label-limit=customer=20",
		"--parent-identity=spiffe://acme.example/bank", "--parent-identity=spiffe://acme.example/insurance")
	if err != nil {
		t.Fatal(err)
	}
	want.tlsOf = map[string]ParticipantTLS{"acme.card.v1.CardService": {
		CAFile: "/etc/acme/ca.pem", CertFile: "/etc/acme/orchestrator.pem", KeyFile: "/etc/acme/orchestrator-key.pem",
	}}
	if diff := diffFlags(want, got); diff != "" {
		t.Errorf("the file sets other flags (-want +got):\n%s", diff)
	}
}

// TestConfigPrecedence tests that a flag wins over a variable, and a variable over the file.
func TestConfigPrecedence(t *testing.T) {
	file := testkit.WriteFile(t, t.TempDir(), "treaty.yaml", []byte(
		"listen: file:1\nstore: file.db\nlog-level: debug\n"+
			"participant:\n  - {target: 'file:1', services: acme.v1.X, tls: {ca: ca.pem}}\n"))
	got, err := configuredFlags(t, map[string]string{
		"TREATY_CONFIG": file, "TREATY_STORE": "env.db", "TREATY_LISTEN": "env:1",
	}, "--listen=flag:1", "--participant=acme.v1.Y=flag:1")
	if err != nil {
		t.Fatal(err)
	}
	want, err := configuredFlags(t, nil, "--listen=flag:1", "--store=env.db", "--log-level=debug",
		"--participant=acme.v1.Y=flag:1")
	if err != nil {
		t.Fatal(err)
	}
	if diff := diffFlags(want, got); diff != "" {
		t.Errorf("other flags (-want +got):\n%s", diff)
	}
}

func TestConfigRefuses(t *testing.T) {
	for _, test := range []struct {
		name, file string
		want       []string
	}{
		{"a key that is almost right", "participants: []\n",
			[]string{`1:1: unknown key "participants": did you mean "participant"?`}},
		{"underscores", "log_level: info\n", []string{`1:1: unknown key "log_level": did you mean "log-level"?`}},
		{"an unknown key", "shards: 3\n",
			[]string{`1:1: unknown key "shards": the keys are the names of the flags: answers,`}},
		{"itself", "config: a.yaml\n", []string{`1:1: unknown key "config"`}},
		{"a key twice", "store: a\nstore: b\n", []string{"2:1: "}},
		{"a wrong value", "\nretention: soon\n", []string{`2:12: retention: time: invalid duration "soon"`}},
		{"a list", "store: [a, b]\n", []string{"1:8: store has one value, not a list"}},
		{"a mapping", "store:\n  path: a\n", []string{"store has no keys of its own"}},
		{"no value", "store:\n", []string{"store has no value: give it one, or leave it out"}},
		{"no list", "participant: a\n", []string{"1:14: participant is a list"}},
		{"a list of lists", "participant: [[a]]\n", []string{"want a participant"}},
		{"no target", "participant:\n  - services: acme.v1.X\n", []string{"a participant needs a target"}},
		{"no service", "participant:\n  - target: a:1\n    services: []\n", []string{"a participant needs a target"}},
		{"a service that is no name", "participant:\n  - {target: 'a:1', services: 'acme/x'}\n",
			[]string{`2:5: participant: "acme/x" isn't a service`}},
		{"an unknown key of a participant", "participant:\n  - {target: 'a:1', services: acme.v1.X, retries: 3}\n",
			[]string{`2:42: unknown key "retries" of a participant`}},
		{"an unknown key of tls", "participant:\n  - {target: 'a:1', services: acme.v1.X, tls: {verify: false}}\n",
			[]string{`unknown key "verify" of tls`}},
		{"tls without a key", "participant:\n  - {target: 'a:1', services: acme.v1.X, tls: {cert: c.pem}}\n",
			[]string{"tls has only one of cert and key"}},
		{"a limit", "participant:\n  - {target: 'a:1', services: acme.v1.X, limit: many}\n",
			[]string{`"many" isn't a limit of acme.v1.X`}},
		{"a way to send commands", "participant:\n  - {target: 'a:1', services: acme.v1.X, commands: slowly}\n",
			[]string{`"acme.v1.X=slowly" says nothing: want SERVICE=unary or SERVICE=stream`}},
		{"a limit of nothing", "start-limit: 5\n", []string{`1:14: start-limit: "5" limits nothing`}},
		{"several errors", "shards: 3\nretention: soon\n", []string{"1:1: unknown key", "2:12: retention"}},
		{"no YAML", "a: [\n", []string{"treaty.yaml:1:"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := testkit.WriteFile(t, t.TempDir(), "treaty.yaml", []byte(test.file))
			_, err := configuredFlags(t, nil, "--config", file)
			if err == nil {
				t.Fatal("the file was accepted")
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(test.want) {
				t.Fatalf("got %d lines, want %d: %v", len(lines), len(test.want), err)
			}
			for i, line := range lines {
				if !strings.HasPrefix(line, file+":") || !strings.Contains(line, test.want[i]) {
					t.Errorf("got %q, want %q after the file's name", line, test.want[i])
				}
			}
		})
	}
}

// TestConfigOfTheProgram tests that the program reads the file, for all of its commands, and says what is wrong.
func TestConfigOfTheProgram(t *testing.T) {
	dir := t.TempDir()
	store := filepath.Join(dir, "treaty.db")
	good := testkit.WriteFile(t, dir, "good.yaml", []byte("listen: 127.0.0.1:0\nstore: "+store+"\n"))
	if code, stdout, stderr := runProgram(t, nil, "--config", good); code != ExitOK ||
		!strings.Contains(stdout, store) {
		t.Fatalf("exit %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	if code, stdout, stderr := runProgram(t, map[string]string{"TREATY_CONFIG": good}, "verify"); code != ExitOK {
		t.Errorf("verify: exit %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	backup := filepath.Join(dir, "backup.db")
	if code, _, stderr := runProgram(t, nil, "backup", "--config", good, "--to", backup); code != ExitOK {
		t.Errorf("backup: exit %d, stderr %q", code, stderr)
	}
	if _, err := os.Stat(backup); err != nil {
		t.Errorf("the backup: %v", err)
	}
	for name, test := range map[string]struct{ file, want string }{
		"missing":           {filepath.Join(dir, "missing.yaml"), "reading the configuration: open "},
		"of the subcommand": {testkit.WriteFile(t, dir, "to.yaml", []byte("to: x\n")), `unknown key "to"`},
		"wrong":             {testkit.WriteFile(t, dir, "wrong.yaml", []byte("stor: x\n")), `:1:1: unknown key "stor"`},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := runProgram(t, nil, "backup", "--config", test.file, "--to", backup+"2")
			if code != ExitUsage || stdout != "" || !strings.Contains(stderr, test.want) {
				t.Errorf("exit %d, stdout %q, stderr %q; want exit %d and %q", code, stdout, stderr, ExitUsage,
					test.want)
			}
		})
	}
}
