package participanttest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/treatyhq/treaty/internal/conform"
)

// Conformance says how to check what a participant promises; see [Conform].
type Conformance struct {
	// Connection is a connection to the participant, such as [Serve] or [Dial] returns.
	Connection *grpc.ClientConn

	// Commands are the commands to check.
	Commands []CommandCase

	// Except are the names of commands that the participant serves and that have no case,
	// "package.Service/Method".
	Except []string

	// Restart stops the participant, starts it again on the same database, and returns a connection to it. If it is
	// nil, what needs a restart is skipped.
	Restart func() *grpc.ClientConn

	// Timeout is how long one attempt may take. Default: 5 seconds.
	Timeout time.Duration

	// Patience is how long a command is repeated until it has an answer, and how long the participant may take to
	// complete an accepted command. Default: 30 seconds.
	Patience time.Duration
}

// CommandCase is one command that [Conform] checks. Method and Request are required.
type CommandCase struct {
	// Method is the method's full name, "/package.Service/Method", as the generated constants have it.
	Method string

	// Request makes a request that succeeds. Each call gets another text, which contains letters, digits and "-", for
	// fields that must differ from request to request.
	Request func(unique string) proto.Message

	// Refused makes a request that is refused. If it is nil, what needs a refusal is skipped.
	Refused func(unique string) proto.Message

	// Effects counts the effects that are there: one for each action that was executed and isn't compensated, whoever
	// sent it. Nobody else may send the command while Conform runs. If it is nil, the participant's own inbox is asked
	// (ListCommands), which can't see an effect outside of its transaction.
	Effects func(ctx context.Context) (int, error)

	// Complete completes an accepted command. If it is nil, the participant completes it by itself.
	Complete func(ctx context.Context, commandID string) error
}

// Conform checks that a running participant does what docs/participants.md promises of it, for each command with its
// compensation: it sends duplicates, also at the same time, after lost replies and after a restart, compensations
// before and beside their actions, late actions, outdated epochs, other requests under a known command id, damaged
// metadata and none, and commands that are completed too late. It compares the answers and the effects.
//
// Each guarantee is a subtest, such as "acme.customer.v1.CustomerService/ChangeAddress/late-action". It fails with what
// was answered and what was wanted, and is skipped if it doesn't apply, with the reason. A command that the participant
// serves and that has neither a case nor is in Except fails the test.
//
// The commands are executed. Those that can't be compensated leave their effect, which the log tells.
func Conform(t *testing.T, c Conformance) {
	t.Helper()
	if c.Connection == nil {
		t.Fatal("Conformance.Connection is nil: give a connection to the participant")
	}
	suite := conform.Suite{Conn: c.Connection, Timeout: c.Timeout, Patience: c.Patience}
	if c.Restart != nil {
		suite.Restart = func(context.Context) (grpc.ClientConnInterface, error) { return c.Restart(), nil }
	}
	checker, err := conform.Start(t.Context(), suite)
	if err != nil {
		t.Fatal(err)
	}
	var commands []*conform.Command
	for _, given := range c.Commands {
		command, err := given.command(checker)
		if err != nil {
			t.Fatal(err)
		}
		commands = append(commands, command)
	}
	if len(commands) == 0 {
		t.Fatal("Conformance.Commands is empty: give at least one command")
	}
	for _, command := range commands {
		t.Run(command.Name(), func(t *testing.T) {
			t.Logf("%s, effects counted by %s", command.Kind(), command.Counted())
			for _, guarantee := range command.Guarantees() {
				t.Run(guarantee.ID, func(t *testing.T) { report(t, command.Check(t.Context(), guarantee)) })
			}
		})
	}
	t.Run("participant", func(t *testing.T) {
		for _, guarantee := range commands[0].ParticipantGuarantees() {
			t.Run(guarantee.ID, func(t *testing.T) { report(t, commands[0].Check(t.Context(), guarantee)) })
		}
		for _, name := range checker.Unchecked(commands, protoregistry.GlobalFiles) {
			if !slices.Contains(c.Except, name) {
				t.Errorf("%s is served and has no case: add one, or name it in Conformance.Except", name)
			}
		}
	})
	for _, left := range checker.Left() {
		t.Log("left behind: " + left.String())
	}
}

func report(t *testing.T, result conform.Result) {
	t.Helper()
	switch result.Verdict {
	case conform.Fails:
		t.Errorf("%s: it doesn't hold: %s", result.Guarantee.Promise, result.Text)
	case conform.Skipped:
		t.Skip(result.Text)
	}
}

// command reads the case.
func (c CommandCase) command(checker *conform.Checker) (*conform.Command, error) {
	name := strings.TrimPrefix(c.Method, "/")
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(
		strings.ReplaceAll(name, "/", ".")))
	method, is := found.(protoreflect.MethodDescriptor)
	if err != nil || !is {
		return nil, fmt.Errorf("no method %q is linked into this program: import its generated package, and write "+
			`the method as "/package.Service/Method"`, c.Method)
	}
	given := conform.Case{Method: method, Effects: c.Effects, Complete: c.Complete}
	if c.Request != nil {
		given.Request = func(unique string) (proto.Message, error) { return c.Request(unique), nil }
	}
	if c.Refused != nil {
		given.Refused = func(unique string) (proto.Message, error) { return c.Refused(unique), nil }
	}
	return checker.Command(given)
}
