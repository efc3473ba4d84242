package proof

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bufbuild/protocompile"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/internal/wire"
)

// examples holds the participants that docs/participants-in-other-languages.md shows.
var examples = filepath.Join("..", "docs", "examples")

// newProject returns a folder with the contracts where a participant of docs/examples expects them, and a copy of the
// participant.
func newProject(t *testing.T, participant string) string {
	t.Helper()
	project := t.TempDir()
	contracts := filepath.Join("..", "cmd", "treaty", "internal", "scaffold", "template", "proto")
	for _, folder := range []struct{ to, from string }{
		{"proto", contracts},
		{filepath.Join("third_party", "treaty"), filepath.Join("..", "proto", "treaty")},
		{participant, filepath.Join(examples, participant)},
	} {
		if err := copyTree(filepath.Join(project, folder.to), folder.from); err != nil {
			t.Fatal(err)
		}
	}
	return project
}

// copyTree copies a folder, without what npm and the compiler make.
func copyTree(to, from string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if slices.Contains([]string{"node_modules", "dist", "__pycache__"}, entry.Name()) {
				return fs.SkipDir
			}
			return os.MkdirAll(filepath.Join(to, name), 0o700)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), content, 0o600)
	})
}

// npmLock makes the tests that run npm wait for each other.
var npmLock sync.Mutex

func npm(t *testing.T, dir string, arguments ...string) {
	t.Helper()
	npmLock.Lock()
	defer npmLock.Unlock()
	command := exec.CommandContext(t.Context(), "npm", arguments...)
	command.Dir = dir
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("npm %s: %v\n%s", strings.Join(arguments, " "), err, output)
	}
}

// process is a participant that runs.
type process struct {
	command *exec.Cmd
	ended   chan error
}

// startProcess starts a program and waits until it says that it listens. It is killed when the test ends.
func startProcess(t *testing.T, dir string, arguments ...string) *process {
	t.Helper()
	command := exec.Command(arguments[0], arguments[1:]...)
	command.Dir = dir
	command.Stderr = t.Output()
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{command: command, ended: make(chan error, 1)}
	listening := make(chan struct{})
	go func() {
		lines := bufio.NewScanner(output)
		for lines.Scan() {
			if strings.Contains(lines.Text(), "listening") {
				close(listening)
				break
			}
		}
		for lines.Scan() { // until the process ends
			continue
		}
		p.ended <- command.Wait()
	}()
	t.Cleanup(func() { _ = command.Process.Kill() })
	select {
	case <-listening:
	case err := <-p.ended:
		t.Fatalf("%s ended at its start: %v", strings.Join(arguments, " "), err)
	case <-time.After(time.Minute):
		t.Fatalf("%s doesn't listen after a minute", strings.Join(arguments, " "))
	}
	return p
}

// stop ends the process in an orderly way, or kills it.
func (p *process) stop(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if err := p.command.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	err := <-p.ended
	if exit := (*exec.ExitError)(nil); err != nil && (signal != syscall.SIGKILL || !errors.As(err, &exit)) {
		t.Errorf("after the signal %s, the process ended with %v", signal, err)
	}
}

// stock calls a stock service whose contract is read from its file.
type stock struct {
	t          *testing.T
	file       protoreflect.FileDescriptor
	connection *grpc.ClientConn
}

func newStock(t *testing.T, project, address string) *stock {
	t.Helper()
	compiler := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{
		ImportPaths: []string{filepath.Join(project, "proto"), filepath.Join(project, "third_party")},
	})}
	files, err := compiler.Compile(t.Context(), "stock/v1/stock_service.proto")
	if err != nil {
		t.Fatal(err)
	}
	return &stock{t: t, file: files[0], connection: testkit.Dial(t, address)}
}

func (s *stock) message(name, text string) *dynamicpb.Message {
	s.t.Helper()
	message := dynamicpb.NewMessage(s.file.Messages().ByName(protoreflect.Name(name)))
	if err := prototext.Unmarshal([]byte(text), message); err != nil {
		s.t.Fatal(err)
	}
	return message
}

// call sends a command and returns what came of it in short: the reply, or the code, the details and the mark.
func (s *stock) call(method, request string, keys ...string) string {
	s.t.Helper()
	descriptor := s.file.Services().ByName("StockService").Methods().ByName(protoreflect.Name(method))
	reply := dynamicpb.NewMessage(descriptor.Output())
	var trailer metadata.MD
	ctx := metadata.AppendToOutgoingContext(s.t.Context(), keys...)
	err := s.connection.Invoke(ctx, "/stock.v1.StockService/"+method,
		s.message(string(descriptor.Input().Name()), request), reply, grpc.Trailer(&trailer), grpc.WaitForReady(true))
	if err == nil {
		return strings.TrimSpace("OK " + short(s.t, reply))
	}
	st := status.Convert(err)
	words := []string{st.Code().String()}
	for _, detail := range st.Proto().GetDetails() {
		var info errdetails.ErrorInfo
		if detail.UnmarshalTo(&info) == nil {
			words = append(words, info.GetDomain()+"/"+info.GetReason())
			continue
		}
		name := protoreflect.FullName(detail.GetTypeUrl()[strings.LastIndex(detail.GetTypeUrl(), "/")+1:])
		rejection := dynamicpb.NewMessage(s.file.Messages().ByName(name.Name()))
		if err := proto.Unmarshal(detail.GetValue(), rejection); err != nil {
			s.t.Fatal(err)
		}
		words = append(words, string(name.Name()), short(s.t, rejection))
	}
	return strings.Join(append(words, trailer.Get(wire.AnswerKey)...), " ")
}

// short returns the first field of a message that is set.
func short(t *testing.T, message proto.Message) string {
	t.Helper()
	value := ""
	message.ProtoReflect().Range(func(_ protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		value = v.String()
		return false
	})
	return value
}

// command returns the keys of a command of step 1 of a saga. More keys replace these.
func command(saga, direction string, more ...string) []string {
	keys := map[string]string{
		wire.SagaKey: wire.SagaName(saga), wire.CommandIDKey: wire.StepName(saga, "1"), wire.DirectionKey: direction,
		wire.AttemptKey: "1", wire.EpochKey: "5", wire.ScopeKey: "/0",
		wire.StartKey: "1700000000000000", wire.RequestDigestKey: strings.Repeat("a", wire.DigestLength),
	}
	for i := 0; i < len(more); i += 2 {
		keys[more[i]] = more[i+1]
	}
	var list []string
	for key, value := range keys {
		if value != "" {
			list = append(list, key, value)
		}
	}
	return list
}

// languages are the participants in docs/examples, with what builds them and returns how they are started.
var languages = map[string]func(t *testing.T, project string) []string{
	"stock-ts": func(t *testing.T, project string) []string {
		pack := exec.CommandContext(t.Context(), "make", "-s", "-C", "..", "package",
			"TO="+filepath.Join(project, "stock-ts"))
		if output, err := pack.CombinedOutput(); err != nil {
			t.Fatalf("packing the library for TypeScript: %v\n%s", err, output)
		}
		npm(t, filepath.Join(project, "stock-ts"), "ci")
		npm(t, filepath.Join(project, "stock-ts"), "run", "build")
		return []string{"node", "stock-ts/dist/server.js"}
	},
	"stock-py": func(t *testing.T, project string) []string {
		look := exec.CommandContext(t.Context(), "python3", "-c", "import grpc_tools")
		if output, err := look.CombinedOutput(); err != nil {
			t.Skipf("Python's gRPC isn't installed: %v\n%s", err, output)
		}
		generate := exec.CommandContext(t.Context(), "python3", "-m", "grpc_tools.protoc", "-Iproto", "-Ithird_party",
			"--python_out=stock-py", "--grpc_python_out=stock-py", "stock/v1/stock_service.proto",
			"treaty/v1/options.proto")
		generate.Dir = project
		if output, err := generate.CombinedOutput(); err != nil {
			t.Fatalf("generating: %v\n%s", err, output)
		}
		return []string{"python3", "-u", "stock-py/server.py"}
	},
}

// TestParticipantsInOtherLanguages sends commands to the participants that the documentation shows, as orchestrators
// send them: twice, in the wrong order, from an orchestrator that was replaced, with another request, damaged.
func TestParticipantsInOtherLanguages(t *testing.T) {
	const (
		two      = `item: "teapot" quantity: 2`
		undo     = `action {item: "teapot" quantity: 2} reply {reservation: "reservations/1"}`
		undoLost = `action {item: "teapot" quantity: 2}`
		late     = "FailedPrecondition treaty/COMPENSATED_BEFORE settled"
		nothing  = "InvalidArgument treaty/METADATA_INVALID attempt"
		stale    = "Aborted treaty/STALE_EPOCH attempt"
		none     = ""
	)
	calls := []struct {
		what, method, request string
		keys                  []string
		want                  string
	}{
		{"an action", "ReserveStock", two, command("a", wire.Action), "OK reservations/1"},
		{"its duplicate", "ReserveStock", two, command("a", wire.Action, wire.AttemptKey, "2"), "OK reservations/1"},
		{"another request", "ReserveStock", two, command("a", wire.Action, wire.RequestDigestKey,
			strings.Repeat("b", wire.DigestLength)), "Internal treaty/OTHER_REQUEST attempt"},
		{"another method", "ReleaseStock", undo, command("a", wire.Action), "Internal treaty/OTHER_REQUEST attempt"},
		{"a call for no saga", "ReserveStock", `item: "teapot" quantity: 97`, nil, "OK reservations/2"},
		{"a refusal", "ReserveStock", two, command("b", wire.Action), "FailedPrecondition OutOfStock 1 settled"},
		{"its compensation", "ReleaseStock", undoLost, command("b", wire.Compensation), "OK"},
		{"a compensation", "ReleaseStock", undo, command("a", wire.Compensation), "OK"},
		{"its duplicate", "ReleaseStock", undo, command("a", wire.Compensation), "OK"},
		{"an action after its compensation", "ReserveStock", two, command("a", wire.Action), late},
		{"the refused action, now compensated", "ReserveStock", two, command("b", wire.Action), late},
		{"an action with the same items", "ReserveStock", two, command("c", wire.Action), "OK reservations/3"},
		{"a compensation without a reply", "ReleaseStock", undoLost, command("c", wire.Compensation), "OK"},
		{"a compensation before its action", "ReleaseStock", undoLost, command("d", wire.Compensation), "OK"},
		{"its action", "ReserveStock", two, command("d", wire.Action), late},
		{"its action again", "ReserveStock", two, command("d", wire.Action), late},
		{"an older orchestrator", "ReserveStock", two, command("e", wire.Action, wire.EpochKey, none, wire.ScopeKey,
			none, wire.StartKey, none, wire.RequestDigestKey, none), "OK reservations/4"},
		{"a later epoch, and a refusal", "ReserveStock", `item: "teapot" quantity: 9`,
			command("f", wire.Action, wire.EpochKey, "6"), "FailedPrecondition OutOfStock 1 settled"},
		{"a replaced orchestrator", "ReserveStock", two, command("g", wire.Action), stale},
		{"another scope", "ReserveStock", `quantity: 0`, command("h", wire.Action, wire.ScopeKey, "other/0"),
			"InvalidArgument settled"},
		{"an epoch from the future", "ReserveStock", two, command("i", wire.Action, wire.EpochKey,
			"9000000000000000000"), "Unauthenticated treaty/EPOCH_AHEAD attempt"},
		{"no command id", "ReserveStock", two, command("j", wire.Action, wire.CommandIDKey, none), nothing},
		{"no direction", "ReserveStock", two, command("j", wire.Action, wire.DirectionKey, none), nothing},
		{"another saga", "ReserveStock", two, command("j", wire.Action, wire.SagaKey, "sagas/k"), nothing},
		{"a key twice", "ReserveStock", two, append(command("j", wire.Action), wire.DirectionKey, wire.Action),
			nothing},
	}
	for name, build := range languages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			project := newProject(t, name)
			arguments := append(build(t, project), testkit.UnusedAddress(t), filepath.Join(project, "stock.db"))
			address := arguments[len(arguments)-2]
			service := newStock(t, project, address)
			running := startProcess(t, project, arguments...)
			for i, call := range calls {
				if got := service.call(call.method, call.request, call.keys...); got != call.want {
					t.Errorf("call %d, %s: got %q, want %q", i+1, call.what, got, call.want)
				}
			}
			// The package for TypeScript has ParticipantService. The participant in Python has what it must have.
			described, err := treatyv1.NewParticipantServiceClient(service.connection).Describe(
				metadata.AppendToOutgoingContext(t.Context(), wire.ScopeKey, "another/0", wire.EpochKey, "5"),
				&treatyv1.DescribeRequest{})
			kept := []string{"stock.v1.StockService/ReleaseStock", "stock.v1.StockService/ReserveStock"}
			switch {
			case name == "stock-py" && status.Code(err) != codes.Unimplemented:
				t.Errorf("Describe is answered with %v", err)
			case name == "stock-ts" && (err != nil || !slices.Equal(described.GetKeptMethods(), kept)):
				t.Errorf("Describe is answered with %v, %v", described, err)
			}

			// What is stored outlives the process. Of 100 items, 97 were taken for no saga and 2 by "e".
			running.stop(t, syscall.SIGKILL)
			running = startProcess(t, project, arguments...)
			for _, call := range []struct {
				what string
				keys []string
				want string
			}{
				{"a duplicate", command("e", wire.Action, wire.EpochKey, none, wire.ScopeKey, none),
					"OK reservations/4"},
				{"a replaced orchestrator", command("g", wire.Action), stale},
				{"what is left", nil, "FailedPrecondition OutOfStock 1 attempt"},
			} {
				if got := service.call("ReserveStock", two, call.keys...); got != call.want {
					t.Errorf("after a kill, %s: got %q, want %q", call.what, got, call.want)
				}
			}
			running.stop(t, syscall.SIGTERM)
		})
	}
}

// TestPythonIsValid compiles the participant in Python. Whether it works is tested where Python's gRPC is installed.
func TestPythonIsValid(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("Python isn't installed")
	}
	project := newProject(t, "stock-py")
	for _, file := range []string{"inbox.py", "server.py"} {
		compile := exec.CommandContext(t.Context(), python, "-m", "py_compile",
			filepath.Join(project, "stock-py", file))
		if output, err := compile.CombinedOutput(); err != nil {
			t.Error(fmt.Errorf("compiling %s: %w\n%s", file, err, output))
		}
	}
}
