package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/treatyhq/treaty/cmd/treaty/internal/servertest"
)

// TestPolicy checks policies, and compares one with recorded calls.
func TestPolicy(t *testing.T) {
	f := servertest.New(t)
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	audit := readFile(t, filepath.Join("testdata", "policy", "audit.jsonl"))
	for name, s := range map[string]setup{
		"policy_check":          {args: []string{"policy", "check", "policy.yaml"}, address: f.Address},
		"policy_check_json":     {args: []string{"policy", "check", "policy.yaml", "--json"}, address: f.Address},
		"policy_check_mistakes": {args: []string{"policy", "check", "mistakes.yaml"}, address: f.Address},
		"policy_check_offline":  {args: []string{"policy", "check", "mistakes.yaml", "--offline"}},
		"policy_check_nonsense": {args: []string{"policy", "check", "nonsense.yaml", "--offline"}},
		"policy_test":           {args: []string{"policy", "test", "policy.yaml", "--against", "audit.jsonl"}},
		"policy_test_json": {args: []string{"policy", "test", "policy.yaml", "--against", "-", "--json"},
			stdin: audit},
		"policy_test_same": {args: []string{"policy", "test", "policy.yaml", "--against", "-"},
			stdin: strings.SplitAfter(audit, "\n")[0]},
		"help_policy":       {args: []string{"policy"}, address: defaultAddress},
		"help_policy_check": {args: []string{"policy", "check", "--help"}, address: defaultAddress},
		"help_policy_test":  {args: []string{"policy", "test", "--help"}, address: defaultAddress},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(filepath.Join(here, "testdata", "policy"))
			got := run(t, s)
			t.Chdir(here)
			golden(t, name, s, got)
		})
	}
}

// TestPolicyExitCodes tells scripts a policy with mistakes from one that couldn't be checked, and calls that would be
// decided otherwise from calls that couldn't be compared.
func TestPolicyExitCodes(t *testing.T) {
	f := servertest.New(t)
	plain := servertest.New(t, servertest.WithoutReflection)
	file := func(name string) string { return filepath.Join("testdata", "policy", name) }
	for _, test := range []struct {
		name, address, stdin string
		args                 []string
		code                 int
		want                 string // part of stderr
	}{
		{"fine", f.Address, "", []string{"check", file("policy.yaml")}, 0, ""},
		{"mistakes", f.Address, "", []string{"check", file("mistakes.yaml")}, 1, "PlaceOder"},
		{"no file", f.Address, "", []string{"check", file("none.yaml")}, 2, "no such file"},
		{"nobody there", "127.0.0.1:1", "", []string{"check", file("policy.yaml"), "--timeout", "200ms"}, 2,
			"--offline"},
		{"no reflection", plain.Address, "", []string{"check", file("policy.yaml")}, 2, "--offline"},
		{"no file at all", f.Address, "", []string{"check"}, 2, "needs FILE"},
		{"calls would be refused", "", "", []string{"test", file("policy.yaml"), "--against",
			file("audit.jsonl")}, 1, ""},
		{"no calls", "", "", []string{"test", file("policy.yaml"), "--against", "-"}, 0, ""},
		{"no log", "", "", []string{"test", file("policy.yaml")}, 2, "--against"},
		{"a log that isn't there", "", "", []string{"test", file("policy.yaml"), "--against", "none"}, 2,
			"no such file"},
		{"a log that is none", "", "x\n", []string{"test", file("policy.yaml"), "--against", "-"}, 2,
			"standard input:1:"},
		{"a policy that is none", "", "", []string{"test", file("nonsense.yaml"), "--against", "-"}, 2, "policy check"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := run(t, setup{
				args: append([]string{"policy"}, test.args...), address: test.address, stdin: test.stdin,
			})
			if got.code != test.code || !strings.Contains(got.stderr, test.want) {
				t.Errorf("exit %d, %s; want exit %d and %q", got.code, got.stderr, test.code, test.want)
			}
		})
	}
}
