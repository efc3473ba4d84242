package sagavet

import (
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strings"
)

// forbidden says why saga code must not use something. The text follows its name.
type forbidden struct {
	id, why string
}

// The texts that several names share.
var (
	timer = forbidden{"clock", "waits in memory, and blocks the orchestrator: use saga.Sleep, or saga.After with " +
		"saga.First"}
	random    = forbidden{"random", "gives another value in each replay: use saga.Rand(ctx) or saga.NewID(ctx)"}
	goroutine = forbidden{"goroutine", "runs code on another goroutine, where no Context works: use saga.All or " +
		"saga.Each"}
	channel = forbidden{"channel", "may block, and no replay repeats its order: use saga.All for parallel work, " +
		"and saga.Await or saga.First for events"}
	locks = forbidden{"sync", "may block the orchestrator and isn't needed: only one branch of a saga runs at a " +
		"time, so branches may share variables"}
	network = forbidden{"network", "talks to another system, again in each replay: let a participant do it, and send " +
		"it a command or a query"}
	file = forbidden{"file", "uses files, which other runs of the saga may not find: put the data into the request, " +
		"or let a participant read it"}
	environment = forbidden{"environment", "is another value elsewhere or after a restart: put it into the saga's " +
		"request, or ask a participant with a query"}
	process = forbidden{"process", "acts on the process, which runs many sagas: let a participant do it, or return " +
		"an error"}
	logs = forbidden{"log", "repeats its line in each replay: use saga.Logger(ctx)"}
)

// names are the functions and variables of packages that saga code must not use, and the types whose methods it must
// not call. A star at the end of a name stands for any other functions and variables; alone, for types, too.
var names = map[string][]struct {
	bad   forbidden
	names []string
}{
	"time": {
		{forbidden{"clock", "gives another time in each replay: use saga.Now(ctx)"}, []string{"Now", "Since", "Until"}},
		{forbidden{"clock", "blocks the orchestrator: use saga.Sleep(ctx, d)"}, []string{"Sleep"}},
		{timer, []string{"After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Timer", "Ticker"}},
	},
	"context": {
		{forbidden{"clock", "limits the time by the machine's clock: use saga.Try with saga.Within"},
			[]string{"WithTimeout*", "WithDeadline*"}},
		{goroutine, []string{"AfterFunc"}},
	},
	"google.golang.org/protobuf/types/known/timestamppb": {
		{forbidden{"clock", "gives another time in each replay: use timestamppb.New(saga.Now(ctx))"}, []string{"Now"}},
	},
	"hash/maphash":                   {{random, []string{"MakeSeed"}}},
	"github.com/google/uuid":         {{random, []string{"New", "NewString", "NewRandom", "NewUUID", "NewV*"}}},
	"github.com/gofrs/uuid":          {{random, []string{"NewV*"}}},
	"github.com/gofrs/uuid/v5":       {{random, []string{"NewV*"}}},
	"github.com/rs/xid":              {{random, []string{"New*"}}},
	"github.com/segmentio/ksuid":     {{random, []string{"New*"}}},
	"github.com/oklog/ulid/v2":       {{random, []string{"Make", "Now"}}},
	"golang.org/x/sync/errgroup":     {{goroutine, []string{"*"}}},
	"golang.org/x/sync/semaphore":    {{locks, []string{"*"}}},
	"golang.org/x/sync/singleflight": {{locks, []string{"*"}}},
	"sync":                           {{locks, []string{"*"}}},
	"sync/atomic":                    {{locks, []string{"*"}}},
	"net/rpc":                        {{network, []string{"*"}}},
	"net/smtp":                       {{network, []string{"Send*", "Dial", "NewClient", "Client"}}},
	"google.golang.org/grpc": {{network, []string{"NewClient", "Dial*", "NewServer", "ClientConn",
		"ClientConnInterface"}}},
	"database/sql":                    {{network, []string{"Open*", "DB", "Tx", "Conn", "Stmt", "Row", "Rows"}}},
	"github.com/jackc/pgx/v5":         {{network, []string{"Connect*", "Conn", "Tx"}}},
	"github.com/jackc/pgx/v5/pgxpool": {{network, []string{"New*", "Pool"}}},
	"io/ioutil":                       {{file, []string{"ReadFile", "ReadDir", "WriteFile", "TempFile", "TempDir"}}},
	"path/filepath":                   {{file, []string{"Abs", "EvalSymlinks", "Glob", "Walk*"}}},
	"os/exec":                         {{process, []string{"*"}}},
	"os/signal":                       {{process, []string{"*"}}},
	"os/user":                         {{environment, []string{"*"}}},
	"syscall":                         {{process, []string{"Exec", "Kill", "Exit", "ForkExec", "StartProcess"}}},
	"log": {
		{logs, []string{"Print*", "Fatal*", "Panic*", "Output", "Default", "New", "Logger"}},
	},
	"math/rand":             {{random, randomNames}},
	"math/rand/v2":          {{random, randomNames}},
	"crypto/rand":           {{random, []string{"*"}}},
	"net/http":              {{network, httpNames}},
	"golang.org/x/exp/rand": {{random, randomNames}},
	"net": {{network, []string{"Dial*", "Listen*", "Lookup*", "Interface*", "Resolve*", "File*", "Pipe", "Dialer",
		"Resolver", "DefaultResolver", "ListenConfig", "Conn", "TCPConn", "UDPConn", "UnixConn", "Listener"}}},
	"log/slog": {{logs, []string{"Debug*", "Info*", "Warn*", "Error*", "Log*", "Default", "SetDefault", "With"}}},
	"fmt":      {{logs, []string{"Print*"}}, {file, []string{"Scan*"}}},
	"runtime": {
		{environment, []string{"NumCPU", "NumGoroutine", "GOMAXPROCS", "ReadMemStats"}},
		{process, []string{"Goexit", "Gosched", "GC", "LockOSThread", "UnlockOSThread"}},
	},
	"os": {
		{environment, []string{"Getenv", "LookupEnv", "Environ", "ExpandEnv", "Hostname", "Getpid", "Getppid", "Getuid",
			"Getgid", "Getwd", "Executable", "Args", "User*", "TempDir"}},
		{process, []string{"Exit", "StartProcess", "FindProcess", "Process", "Setenv", "Unsetenv", "Clearenv",
			"Chdir"}},
		{file, []string{"Open*", "Create*", "Read*", "Write*", "Mkdir*", "Remove*", "Rename", "Stat", "Lstat", "Chmod",
			"Chown", "Chtimes", "Truncate", "Link", "Symlink", "DirFS", "CopyFS", "Pipe", "File", "Root", "Stdin",
			"Stdout", "Stderr"}},
	},
}

// randomNames are what package rand gives from a seed of its own. A source that is made with a fixed seed is fine.
var randomNames = []string{"Int*", "Uint*", "Float*", "N", "NormFloat64", "ExpFloat64", "Perm", "Shuffle", "Read",
	"Seed"}

// httpNames are what package http uses the network for.
var httpNames = []string{"Get", "Head", "Post*", "NewRequest*", "Listen*", "Serve*", "Handle*", "DefaultClient",
	"DefaultTransport", "DefaultServeMux", "Client", "Transport", "Server", "RoundTripper"}

// forbiddenObject returns why saga code must not use what another package declares.
func forbiddenObject(object types.Object) (forbidden, bool) {
	name, method := object.Name(), false
	switch object := object.(type) {
	case *types.Func:
		if receiver := receiverOf(object); receiver != nil {
			name, method = receiver.Obj().Name(), true // every method of a type that is forbidden
		}
		if isStub(object) {
			return forbidden{"network", "calls another service directly, again in each replay: use the function that " +
				"is generated for saga code, so that the call is a command"}, true
		}
	case *types.Var:
		if object.IsField() {
			return forbidden{}, false
		}
	default:
		return forbidden{}, false
	}
	for _, group := range names[object.Pkg().Path()] {
		if slices.ContainsFunc(group.names, func(pattern string) bool {
			start, begins := strings.CutSuffix(pattern, "*")
			return name == pattern || begins && strings.HasPrefix(name, start) && (!method || start == "")
		}) {
			return group.bad, true
		}
	}
	return forbidden{}, false
}

// isStub reports whether a function is a method of a gRPC client: its first parameter is a context, and its last ones
// are call options.
func isStub(function *types.Func) bool {
	parameters := function.Signature().Params()
	if !function.Signature().Variadic() || parameters.Len() < 2 || function.Signature().Recv() == nil {
		return false
	}
	last, ok := parameters.At(parameters.Len() - 1).Type().(*types.Slice)
	return ok && isNamed(last.Elem(), "google.golang.org/grpc", "CallOption") &&
		isNamed(parameters.At(0).Type(), "context", "Context")
}

func isNamed(one types.Type, path, name string) bool {
	named, ok := types.Unalias(one).(*types.Named)
	return ok && named.Obj().Pkg() != nil && named.Obj().Pkg().Path() == path && named.Obj().Name() == name
}

// forbiddenBuiltin returns why saga code must not use a builtin function.
func forbiddenBuiltin(object types.Object) (forbidden, bool) {
	if _, ok := object.(*types.Builtin); !ok {
		return forbidden{}, false
	}
	switch object.Name() {
	case "print", "println":
		return logs, true
	case "close":
		return channel, true
	}
	return forbidden{}, false
}

// forbiddenSyntax returns why saga code must not use a statement or an expression, and what to call it.
func (p *code) forbiddenSyntax(node ast.Node) (use, bool) {
	switch node := node.(type) {
	case *ast.GoStmt:
		return use{node.Pos(), "a go statement", goroutine}, true
	case *ast.SelectStmt:
		return use{node.Pos(), "select", channel}, true
	case *ast.SendStmt:
		return use{node.Arrow, "sending on a channel", channel}, true
	case *ast.UnaryExpr:
		if node.Op == token.ARROW {
			return use{node.Pos(), "receiving from a channel", channel}, true
		}
	case *ast.RangeStmt:
		if p.isChannel(node.X) {
			return use{node.Pos(), "ranging over a channel", channel}, true
		}
	case *ast.CallExpr:
		if name, ok := node.Fun.(*ast.Ident); ok && name.Name == "make" && p.isChannel(node) {
			return use{node.Pos(), "making a channel", channel}, true
		}
	}
	return use{}, false
}

func (p *code) isChannel(expression ast.Expr) bool {
	one := p.TypesInfo.TypeOf(expression)
	if one == nil {
		return false
	}
	_, ok := one.Underlying().(*types.Chan)
	return ok
}
