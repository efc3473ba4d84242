package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"buf.build/go/bufplugin/check"
	"buf.build/go/bufplugin/check/checktest"

	"github.com/treatyhq/treaty/orchestrator/contract"
)

const (
	root = "../.."

	// rulesDir has an example for each rule of contracts, with the messages that the generator prints for it.
	rulesDir = root + "/orchestrator/contract/testdata/rules"

	// beThePlugin is an environment variable that makes the test binary act as the plugin.
	beThePlugin = "BUF_PLUGIN_TREATY_TEST"
)

func TestMain(m *testing.M) {
	if os.Getenv(beThePlugin) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestSpec(t *testing.T) {
	checktest.SpecTest(t, spec)
}

// TestPurpose tests that buf shows a rule's summary.
func TestPurpose(t *testing.T) {
	for summary, want := range map[string]string{
		"A command has one kind.":      "Checks that a command has one kind.",
		"(treaty.v1.label) is useful.": "Checks that (treaty.v1.label) is useful.",
	} {
		if got := purpose(contract.Rule{Summary: summary}); got != want {
			t.Errorf("the purpose for %q is %q, want %q", summary, got, want)
		}
	}
}

// TestRulesAreTheGenerators checks every example of a broken rule, and compares the messages with the generator's.
func TestRulesAreTheGenerators(t *testing.T) {
	examples, err := filepath.Glob(rulesDir + "/*.proto")
	if err != nil || len(examples) == 0 {
		t.Fatalf("found no examples in %s (error: %v)", rulesDir, err)
	}
	for _, example := range examples {
		name := strings.TrimSuffix(filepath.Base(example), ".proto")
		if _, err := os.Stat(filepath.Join(rulesDir, name+".imports")); err == nil {
			continue // it has other options, which buf's compiler refuses beside the real ones
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			golden, err := os.ReadFile(filepath.Join(rulesDir, name+".golden"))
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for line := range strings.Lines(string(golden)) {
				_, message, _ := strings.Cut(strings.TrimSpace(line), ": ") // positions depend on the compiler
				want = append(want, message)
			}
			var got []string
			for _, annotation := range run(t, &checktest.RequestSpec{Files: files(rulesDir, name)}) {
				got = append(got, annotation.Message())
				if !strings.HasSuffix(annotation.Message(), " ("+annotation.RuleID()+")") {
					t.Errorf("%q is reported for %s", annotation.Message(), annotation.RuleID())
				}
				if annotation.FileLocation() == nil || annotation.FileLocation().StartLine() == 0 {
					t.Errorf("%q has no position", annotation.Message())
				}
			}
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

// TestImportsAreNotChecked tests that nobody is told of a broken rule in a file that only is imported.
func TestImportsAreNotChecked(t *testing.T) {
	dir := t.TempDir()
	broken, err := os.ReadFile(rulesDir + "/broadcast_pivot.proto")
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "broken.proto", string(broken))
	write(t, dir, "whole.proto", `syntax = "proto3";

package acme.other.v1;

import "broken.proto";
import "treaty/v1/options.proto";

service OtherService {
  rpc Order(acme.card.v1.IssueCardRequest) returns (acme.card.v1.CardIssued) {
    option (treaty.v1.command) = {pivot: {}};
  }
}
`)
	if found := run(t, &checktest.RequestSpec{Files: files(dir, "whole")}); len(found) > 0 {
		t.Errorf("the importing file is reported: %s", found[0].Message())
	}
	if found := run(t, &checktest.RequestSpec{Files: files(dir, "broken")}); len(found) != 1 {
		t.Errorf("the broken file has %d violations, want 1", len(found))
	}
}

func files(dir string, names ...string) *checktest.ProtoFileSpec {
	spec := &checktest.ProtoFileSpec{DirPaths: []string{dir, filepath.Join(root, "proto")}}
	for _, name := range names {
		spec.FilePaths = append(spec.FilePaths, name+".proto")
	}
	return spec
}

// run checks files in this process.
func run(t *testing.T, request *checktest.RequestSpec) []check.Annotation {
	t.Helper()
	built, err := request.ToRequest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	client, err := check.NewClientForSpec(spec)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Check(t.Context(), built)
	if err != nil {
		t.Fatal(err)
	}
	return response.Annotations()
}

// TestBufLint runs buf with the plugin as a service team does.
func TestBufLint(t *testing.T) {
	workspace := newWorkspace(t, `version: v2
lint:
  use: [TREATY]
plugins:
  - plugin: buf-plugin-treaty
`)
	write(t, workspace, "acme/card/v1/card_service.proto", `syntax = "proto3";

package acme.card.v1;

import "treaty/v1/options.proto";

service CardService {
  rpc OrderCard(OrderCardRequest) returns (CardOrdered) {
    option (treaty.v1.command) = {compensated_by: "CancelCard"};
  }
  rpc BlockCards(stream OrderCardRequest) returns (CardOrdered) {
    option (treaty.v1.command) = {retriable: {}};
  }
  // buf:lint:ignore COMMAND_KIND_MISSING
  rpc ReadCard(OrderCardRequest) returns (CardOrdered) {
    option (treaty.v1.command) = {};
  }
}

message OrderCardRequest {}
message CardOrdered {}
`)
	want := "acme/card/v1/card_service.proto:9:35:CardService has no method \"CancelCard\" to compensate OrderCard: " +
		"write the name of one of its methods, without package and service, or add `rpc CancelCard` " +
		"(COMPENSATION_UNKNOWN) (buf-plugin-treaty)\n" +
		"acme/card/v1/card_service.proto:11:3:BlockCards is a command, so it can't stream: remove `stream` " +
		"(COMMAND_STREAMING) (buf-plugin-treaty)\n"
	if got := buf(t, workspace, "lint"); got != want {
		t.Errorf("buf lint printed\n%s\nwant\n%s", got, want)
	}
}

// TestBufBreaking runs buf with the plugin against an earlier version. buf's own rules find nothing in these changes.
func TestBufBreaking(t *testing.T) {
	const config = `version: v2
breaking:
  use: [FILE, TREATY]
plugins:
  - plugin: buf-plugin-treaty
`
	const earlier = `syntax = "proto3";

package acme.card.v1;

import "treaty/v1/options.proto";

service CardService {
  rpc OrderCard(OrderCardRequest) returns (CardOrdered) {
    option (treaty.v1.command) = {compensated_by: "CancelCard"};
  }
  rpc CancelCard(CancelCardRequest) returns (CardOrdered);
}

message OrderCardRequest {}
message CancelCardRequest {
  OrderCardRequest action = 1;
}
message CardOrdered {
  option (treaty.v1.event) = {};
  string card = 1 [(treaty.v1.correlation_key) = true];
  string customer = 2;
}
`
	against, workspace := newWorkspace(t, config), newWorkspace(t, config)
	write(t, against, "acme/card/v1/card_service.proto", earlier)
	write(t, workspace, "acme/card/v1/card_service.proto", strings.NewReplacer(
		`compensated_by: "CancelCard"`, "pivot: {}",
		"card = 1 [(treaty.v1.correlation_key) = true]", "card = 1",
		"customer = 2", "customer = 2 [(treaty.v1.correlation_key) = true]",
	).Replace(earlier))
	want := "acme/card/v1/card_service.proto:9:12:OrderCard was compensatable and is a pivot, but sagas rely on its " +
		"being undone: write the earlier kind again, or add a new command (COMMAND_SAME_KIND) (buf-plugin-treaty)\n" +
		"acme/card/v1/card_service.proto:21:24:the correlation key of CardOrdered was card, and sagas that await its " +
		"value are never woken: write `[(treaty.v1.correlation_key) = true]` there again, or add a new event " +
		"(EVENT_SAME_KEY) (buf-plugin-treaty)\n"
	if got := buf(t, workspace, "breaking", "--against", against); got != want {
		t.Errorf("buf breaking printed\n%s\nwant\n%s", got, want)
	}
	if got := buf(t, against, "breaking", "--against", against); got != "" {
		t.Errorf("buf breaking of the same contract printed\n%s", got)
	}
	if err := os.Remove(filepath.Join(workspace, "acme", "card", "v1", "card_service.proto")); err != nil {
		t.Fatal(err)
	}
	if got := buf(t, workspace, "breaking", "--against", against); !strings.Contains(got, "COMMAND_NO_DELETE") ||
		!strings.Contains(got, "COMPENSATION_NO_DELETE") || !strings.Contains(got, "EVENT_NO_DELETE") {
		t.Errorf("buf breaking of a file that is gone printed\n%s", got)
	}
}

// newWorkspace returns a new folder with Treaty's options and a configuration of buf.
func newWorkspace(t *testing.T, config string) string {
	t.Helper()
	dir := t.TempDir()
	options, err := os.ReadFile(filepath.Join(root, "proto", "treaty", "v1", "options.proto"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "treaty/v1/options.proto", string(options))
	write(t, dir, "buf.yaml", config)
	return dir
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// buf runs buf in a workspace with this binary as its plugin, and returns what it prints about the files.
func buf(t *testing.T, workspace string, args ...string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := os.Symlink(self, filepath.Join(bin, "buf-plugin-treaty")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), bufProgram(t), args...)
	cmd.Dir = workspace
	cmd.Env = append(os.Environ(), beThePlugin+"=1", "PATH="+bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	if exit, is := errors.AsType[*exec.ExitError](err); err != nil && (!is || exit.ExitCode() != 100) {
		t.Fatalf("buf %s: %v\n%s%s", strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String()
}

// bufProgram returns the path of the buf that make runs. The first time, it is compiled, which takes minutes.
func bufProgram(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "tool", "-n", "-modfile=tools/buf/go.mod", "buf")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(fmt.Errorf("building buf: %w", err))
	}
	return strings.TrimSpace(string(out))
}
