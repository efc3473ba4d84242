package houserules

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
)

// rule says what some packages may import. Patterns are those of matches.
type rule struct {
	// name is the subtest's name; why is what a reader of a failure needs to know.
	name, why string

	// from are the packages that the rule is about; except are those that it isn't about.
	from, except []string

	// allow, when set, are the only imports of the module and of other modules that are fine. The standard library
	// always is.
	allow []string

	// deny are imports that aren't fine, of the standard library too.
	deny []string

	// reach says how far deny looks.
	reach reach
}

// reach says how far a rule's deny looks.
type reach int

const (
	direct     reach = iota // what code files import themselves
	withTests               // what test files import, too
	transitive              // what code files import over any number of the module's packages
)

// inner are the orchestrator's packages that a company's own code must not need. Outside of orchestrator, the compiler
// enforces this for the packages below orchestrator/internal; these rules also hold inside it.
var inner = []string{"orchestrator/contract/...", "orchestrator/internal/..."}

var participants = []string{
	"services/customer/...", "services/identity/...", "services/credit/...", "services/card/...",
	"services/notification/...",
}

var rules = append(participantRules(), []rule{
	{
		name:  "wire",
		why:   "every package may use it, so it depends on none",
		from:  []string{"internal/wire"},
		allow: []string{"gen/treaty/v1"},
	},
	{
		name: "incoming",
		why:  "participants and orchestrators share it, so it knows neither",
		from: []string{"internal/incoming"},
		allow: []string{
			"gen/treaty/v1", "internal/drift", "internal/wire", "google.golang.org/genproto/...",
			"google.golang.org/grpc/...", "google.golang.org/protobuf/...",
		},
	},
	{
		name: "command stream",
		why:  "it executes commands through generated handlers, and knows neither the inbox nor the orchestrator",
		from: []string{"participant/internal/commandstream"},
		allow: []string{
			"gen/treaty/v1", "internal/incoming", "internal/wire", "go.opentelemetry.io/otel/...",
			"google.golang.org/genproto/...", "google.golang.org/grpc/...", "google.golang.org/protobuf/...",
		},
	},
	{
		name: "the orchestrator's end of the stream of commands",
		why:  "it sends commands and says what became of them; what that means for a saga is decided elsewhere",
		from: []string{"orchestrator/internal/commandstream"},
		allow: []string{
			"gen/treaty/v1", "google.golang.org/genproto/...", "google.golang.org/grpc/...",
			"google.golang.org/protobuf/...",
		},
	},
	{
		name: "client",
		why:  "programs that call sagas inherit what it imports",
		from: []string{"client"},
		allow: []string{
			"gen/treaty/v1", "internal/wire", "google.golang.org/genproto/...", "google.golang.org/grpc/...",
			"google.golang.org/protobuf/...",
		},
	},
	{
		name: "conform",
		why:  "tests of participants and the CLI share it, so it knows neither",
		from: []string{"internal/conform"},
		allow: []string{
			"gen/treaty/v1", "internal/wire", "google.golang.org/genproto/...", "google.golang.org/grpc/...",
			"google.golang.org/protobuf/...",
		},
	},
	{
		name:  "npm",
		why:   "tests and the example company share it, so it knows neither",
		from:  []string{"internal/npm"},
		allow: []string{"internal/filelock"},
	},
	{
		name:  "postgres",
		why:   "tests, the benchmark and the example company share it, so it knows none of them, and no driver",
		from:  []string{"internal/postgres/..."},
		allow: []string{"internal/filelock", "internal/postgres"},
	},
	{
		name:  "tlsfiles",
		why:   "orchestrators and participants share it, so it knows neither",
		from:  []string{"internal/tlsfiles"},
		allow: []string{},
	},
	{
		name:  "heapfloor",
		why:   "orchestrators and participants share it, so it knows neither",
		from:  []string{"internal/heapfloor"},
		allow: []string{},
	},
	{
		name:  "configfile",
		why:   "it knows how files of settings are written, and not what they say",
		from:  []string{"internal/configfile"},
		allow: []string{"go.yaml.in/yaml/v3"},
	},
	{
		name:  "policy",
		why:   "the orchestrator and the CLI share it, so it knows neither",
		from:  []string{"internal/policy"},
		allow: []string{"internal/configfile", "orchestrator/access"},
	},
	{
		name:  "dialcause",
		why:   "the orchestrator and the CLI share it, so it knows neither",
		from:  []string{"internal/dialcause"},
		allow: []string{},
	},
	{
		name:  "progress",
		why:   "the orchestrator and the CLI share it, so it knows neither",
		from:  []string{"internal/progress"},
		allow: []string{},
	},
	{
		name:  "drift",
		why:   "the orchestrator and the CLI share it, so it knows neither; it compares, and asks nobody",
		from:  []string{"internal/drift"},
		allow: []string{"gen/treaty/v1", "google.golang.org/protobuf/..."},
		deny:  []string{"context", "net/...", "os/..."},
	},
	{
		name: "reflection",
		why:  "the orchestrator and the CLI share it, so it knows neither",
		from: []string{"internal/reflection"},
		allow: []string{
			"google.golang.org/grpc/...", "google.golang.org/protobuf/...",
		},
	},
	{
		name:  "caller",
		why:   "orchestrators and participants share it, so it knows neither",
		from:  []string{"internal/caller"},
		allow: []string{"google.golang.org/grpc/credentials", "google.golang.org/grpc/peer"},
	},
	{
		name: "internal packages",
		why:  "the example company's services and sagas need nothing that another company can't import",
		from: append([]string{"services/sagas/..."}, participants...),
		deny: []string{"internal/..."},
	},
	{
		name:  "contract",
		why:   "the generator, the orchestrator and the docs share it, so it knows none of them",
		from:  []string{"orchestrator/contract/..."},
		allow: []string{"gen/treaty/v1", "google.golang.org/grpc/codes", "google.golang.org/protobuf/..."},
		deny:  []string{"context", "net/...", "os/..."},
	},
	{
		name: "machine",
		why:  "it is pure: the same journal and input give the same records and effects, always",
		from: []string{"orchestrator/internal/machine/..."},
		allow: []string{"gen/treaty/v1", "internal/wire", "orchestrator/contract", "orchestrator/internal/coroutine",
			"google.golang.org/grpc/codes", "google.golang.org/protobuf/..."},
		deny: []string{
			"context", "crypto/...", "database/...", "io/...", "log/...", "math/rand/...", "net/...", "os/...",
			"sync/...", "syscall/...", "unsafe",
		},
	},
	{
		name:  "coroutine",
		why:   "the machine stands on it, so it knows nothing about sagas, and has no clock",
		from:  []string{"orchestrator/internal/coroutine"},
		allow: []string{},
		deny: []string{
			"context", "crypto/...", "database/...", "io/...", "log/...", "math/rand/...", "net/...", "os/...",
			"syscall/...", "time/...", "unsafe",
		},
	},
	{
		name: "journal",
		why:  "a store keeps turns and doesn't know what they mean",
		from: []string{"orchestrator/internal/journal/..."},
		allow: []string{
			"gen/treaty/v1", "orchestrator/internal/journal/...",
			"github.com/google/go-cmp/...", "github.com/jackc/pgx/v5/...", "github.com/ncruces/go-sqlite3/...",
			"golang.org/x/...", "google.golang.org/protobuf/...",
		},
	},
	{
		name: "journal seam",
		why:  "the interface must not know its implementations",
		from: []string{"orchestrator/internal/journal"},
		deny: []string{"orchestrator/internal/journal/*"},
	},
	{
		name: "stores",
		why:  "package stores opens the store that a URL names, so nothing else knows which stores exist",
		from: []string{"..."},
		except: []string{
			"orchestrator/internal/journal/stores", "orchestrator/internal/journal/sqlite",
			"orchestrator/internal/journal/transfer",
		},
		deny:  []string{"orchestrator/internal/journal/sqlite"},
		reach: withTests,
	},
	{
		name:   "saga",
		why:    "saga code needs no store, network or server, and neither do its tests",
		from:   []string{"orchestrator/saga/..."},
		except: []string{"orchestrator/saga/sagatest"},
		deny: []string{
			"orchestrator", "orchestrator/internal/dispatch/...", "orchestrator/internal/engine/...",
			"orchestrator/internal/journal/...",
			"orchestrator/internal/server/...", "orchestrator/internal/telemetry/...",
		},
	},
	{
		name:  "analyzer",
		why:   "it reads saga code, and must not need a part of what runs it",
		from:  []string{"orchestrator/saga/sagavet"},
		allow: []string{"gen/treaty/v1", "golang.org/x/tools/go/analysis", "google.golang.org/protobuf/..."},
	},
	{
		name: "saga tests",
		why:  "they run the engine in memory, without a store on disk and without a server",
		from: []string{"orchestrator/saga/sagatest"},
		deny: []string{
			"orchestrator", "orchestrator/internal/journal/sqlite", "orchestrator/internal/journal/stores",
			"orchestrator/internal/server/...",
		},
	},
	{
		name: "engine",
		why:  "it declares the interfaces that it needs; server, dispatch and the stores plug in",
		from: []string{"orchestrator/internal/engine/..."},
		deny: []string{
			"orchestrator", "orchestrator/internal/dispatch/...", "orchestrator/internal/journal/*",
			"orchestrator/internal/server/...",
			"orchestrator/internal/telemetry/...",
		},
		reach: transitive,
	},
	{
		name:  "cluster",
		why:   "it says who drives a shard, and knows nothing of what is driven",
		from:  []string{"orchestrator/internal/cluster"},
		allow: []string{"golang.org/x/sys/unix"},
	},
	{
		name: "cluster in PostgreSQL",
		why:  "it keeps who owns a shard, and knows nothing of the store in the same database but how epochs follow",
		from: []string{"orchestrator/internal/cluster/postgres"},
		allow: []string{
			"orchestrator/internal/cluster", "orchestrator/internal/journal", "github.com/jackc/pgx/v5/...",
		},
	},
	{
		name: "child sagas",
		why:  "they plug into the engine, and know neither the stores nor the API",
		from: []string{"orchestrator/internal/childsaga"},
		deny: []string{
			"orchestrator", "orchestrator/internal/dispatch/...", "orchestrator/internal/journal/...",
			"orchestrator/internal/server/...",
		},
	},
	{
		name:  "leaves",
		why:   "they are small tools, and know nothing about sagas",
		from:  []string{"orchestrator/internal/inflight", "orchestrator/internal/untrusted"},
		allow: []string{"google.golang.org/protobuf/..."},
	},
	{
		name: "dispatch",
		why:  "it calls participants and knows neither the stores nor the API",
		from: []string{"orchestrator/internal/dispatch/..."},
		deny: []string{"orchestrator", "orchestrator/internal/journal/*", "orchestrator/saga/...",
			"orchestrator/internal/server/..."},
	},
	{
		name: "server",
		why:  "it serves the API and knows neither the stores nor the dispatcher",
		from: []string{"orchestrator/internal/server/..."},
		deny: []string{"orchestrator", "orchestrator/internal/dispatch/...", "orchestrator/internal/journal/*"},
	},
	{
		name: "telemetry",
		why:  "every package may record spans and metrics, so it depends on none",
		from: []string{"orchestrator/internal/telemetry/..."},
		deny: []string{
			"orchestrator", "orchestrator/internal/dispatch/...", "orchestrator/internal/engine/...",
			"orchestrator/internal/journal/...",
			"orchestrator/internal/machine/...", "orchestrator/saga/...", "orchestrator/internal/server/...",
		},
	},
	{
		name:  "cli",
		why:   "it speaks to the orchestrator through its public gRPC API, and shares the words of policies only",
		from:  []string{"cmd/treaty/..."},
		deny:  append([]string{"orchestrator", "orchestrator/saga/...", "services/..."}, inner...),
		reach: transitive,
	},
	{
		name: "plugin",
		why:  "it generates what package contract decides, and runs nothing",
		from: []string{"cmd/protoc-gen-go-treaty/..."},
		deny: []string{"orchestrator", "orchestrator/internal/...", "orchestrator/saga/...", "participant/...",
			"services/..."},
	},
	{
		name:   "generated messages and stubs",
		why:    "a participant imports them, so they need nothing of ours but the annotations",
		from:   []string{"gen/..."},
		except: []string{"gen/*/*/*/*saga", "gen/*/*/*saga"},
		deny:   []string{"cmd/...", "internal/...", "orchestrator/...", "participant/...", "services/..."},
		reach:  transitive,
	},
	{
		name: "generated saga code",
		why:  "it is thin; what saga code needs is in orchestrator/saga",
		from: []string{"gen/*/*/*/*saga", "gen/*/*/*saga"},
		deny: append([]string{"cmd/...", "internal/...", "services/..."}, inner...),
	},
	{
		name: "participants",
		why: "a participant needs its contract and what every participant shares, and none of the orchestrator or " +
			"of the other participants",
		from: participants,
		deny: []string{
			"bench/...", "cmd/...", "internal/houserules/...", "internal/jaegertest/...", "orchestrator/...",
			"proof/...",
			"services/sagas/...", "services/demo/...",
		},
		reach: transitive,
	},
	{
		name:  "participants' tests",
		why:   "a participant is tested without the orchestrator",
		from:  participants,
		deny:  []string{"orchestrator/..."},
		reach: withTests,
	},
	{
		name: "what participants share",
		why:  "any company's participant can import it",
		from: []string{"participant/..."},
		deny: []string{
			"bench/...", "cmd/...", "gen/acme/...", "gen/bench/...", "internal/houserules/...",
			"internal/jaegertest/...",
			"orchestrator/...", "proof/...", "services/...",
			// What belongs to a process and not to a library.
			"flag", "os/signal", "go.opentelemetry.io/contrib/exporters/...", "go.opentelemetry.io/otel/sdk/...",
		},
		reach: transitive,
	},
	{
		name: "sagas",
		why:  "a company's own sagas need only the public packages: orchestrator and saga",
		from: []string{"services/sagas/...", "services/demo/...", "bench/..."},
		deny: append([]string{"cmd/...", "proof/..."}, inner...),
	},
	{
		name: "sagas and participants",
		why:  "they meet over gRPC and in their contracts only",
		from: []string{"services/sagas/..."},
		deny: participants,
	},
	{
		name:   "commands",
		why:    "a command is run, not imported",
		from:   []string{"..."},
		except: []string{"cmd/..."},
		deny:   []string{"cmd/..."},
		reach:  withTests,
	},
	{
		name:  "one command and another",
		why:   "a command is run, not imported",
		from:  []string{"cmd/treaty/..."},
		deny:  []string{"cmd/protoc-gen-go-treaty/..."},
		reach: withTests,
	},
	{
		name:   "test support",
		why:    "packages for tests, and package testing, stay out of programs",
		from:   []string{"..."},
		except: []string{"internal/testkit", "internal/hostile", "*test", "*/*test", "*/*/*test", "*/*/*/*test"},
		deny: []string{"internal/testkit", "internal/hostile", "*test", "*/*test", "*/*/*test", "*/*/*/*test",
			"testing/..."},
	},
}...)

// participantRules keeps every participant apart from the others.
func participantRules() []rule {
	var separate []rule
	for _, p := range participants {
		separate = append(separate, rule{
			name:  path.Base(strings.TrimSuffix(p, "/...")) + " and the other participants",
			why:   "participants don't know each other; a saga does",
			from:  []string{p},
			deny:  without(participants, p),
			reach: withTests,
		})
	}
	return separate
}

func without(patterns []string, pattern string) []string {
	return slices.DeleteFunc(slices.Clone(patterns), func(p string) bool { return p == pattern })
}

func TestImports(t *testing.T) {
	packages := readModule(t)
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			for _, pattern := range r.missing(packages) {
				t.Errorf("no package matches %s: correct the rule or delete it", pattern)
			}
			for _, violation := range r.check(packages) {
				t.Errorf("%s: %s", violation, r.why)
			}
		})
	}
}

// check returns what breaks the rule, in the order of the packages.
func (r rule) check(packages map[string]*source) []string {
	var violations []string
	for _, dir := range slices.Sorted(maps.Keys(packages)) {
		if !r.about(dir) {
			continue
		}
		p := packages[dir]
		imports := slices.Clone(p.imports)
		if r.reach == withTests {
			imports = append(imports, p.testImports...)
		}
		for _, imported := range imports {
			if imported == dir {
				continue // an external test package
			}
			if matchesAny(r.deny, imported) || r.allow != nil && !matchesAny(r.allow, imported) &&
				!matches("std", imported) {
				violations = append(violations, fmt.Sprintf("%s must not import %s", dir, imported))
			}
		}
		if r.reach == transitive {
			violations = append(violations, r.follow(packages, dir)...)
		}
	}
	return violations
}

// missing returns the patterns that the rule names and that match no package of the module. A rule about packages that
// don't exist would pass without checking anything.
func (r rule) missing(packages map[string]*source) []string {
	var missing []string
	for _, pattern := range slices.Concat(r.from, r.except, r.deny, r.allow) {
		named := inModule(strings.TrimSuffix(pattern, "/..."))
		if named && !slices.ContainsFunc(slices.Collect(maps.Keys(packages)),
			func(dir string) bool { return matches(pattern, dir) }) {
			missing = append(missing, pattern)
		}
	}
	return missing
}

func (r rule) about(dir string) bool {
	all := slices.Equal(r.from, []string{"..."})
	return (all || matchesAny(r.from, dir)) && !matchesAny(r.except, dir)
}

// follow returns the denied packages that dir reaches through others, each with the shortest path.
func (r rule) follow(packages map[string]*source, dir string) []string {
	var violations []string
	way := map[string]string{dir: dir}
	for queue := []string{dir}; len(queue) > 0; queue = queue[1:] {
		p := packages[queue[0]]
		if p == nil {
			continue
		}
		for _, imported := range p.imports {
			if way[imported] != "" || matches("std", imported) && !matchesAny(r.deny, imported) {
				continue
			}
			way[imported] = way[queue[0]] + " -> " + imported
			if matchesAny(r.deny, imported) {
				if queue[0] != dir {
					violations = append(violations,
						fmt.Sprintf("%s must not reach %s (%s)", dir, imported, way[imported]))
				}
				continue
			}
			queue = append(queue, imported)
		}
	}
	return violations
}

// The rules must find violations, in packages that are made up here.
func TestRulesFindViolations(t *testing.T) {
	scenarios := []struct {
		rule     string
		packages []source
		want     string
	}{
		{"machine", []source{{dir: "orchestrator/internal/machine", imports: []string{"context"}}},
			"orchestrator/internal/machine must not import context"},
		{"machine", []source{{dir: "orchestrator/internal/machine", imports: []string{"math/rand/v2"}}},
			"orchestrator/internal/machine must not import math/rand/v2"},
		{"machine", []source{{dir: "orchestrator/internal/machine",
			imports: []string{"orchestrator/internal/journal"}}},
			"orchestrator/internal/machine must not import orchestrator/internal/journal"},
		{"machine", []source{{dir: "orchestrator/internal/machine", imports: []string{"google.golang.org/grpc"}}},
			"orchestrator/internal/machine must not import google.golang.org/grpc"},
		{"machine", []source{{dir: "orchestrator/internal/machine",
			imports: []string{"strings", "time", "google.golang.org/protobuf/proto"}}}, ""},
		{"journal", []source{{dir: "orchestrator/internal/journal/sqlite",
			imports: []string{"orchestrator/internal/machine"}}},
			"orchestrator/internal/journal/sqlite must not import orchestrator/internal/machine"},
		{"stores", []source{{dir: "bench", imports: []string{"orchestrator/internal/journal/sqlite"}}},
			"bench must not import orchestrator/internal/journal/sqlite"},
		{"stores", []source{{dir: "orchestrator/internal/journal/stores",
			imports: []string{"orchestrator/internal/journal/sqlite"}}}, ""},
		{"engine", []source{{dir: "orchestrator/internal/engine",
			imports: []string{"orchestrator/internal/journal/sqlite"}}},
			"orchestrator/internal/engine must not import orchestrator/internal/journal/sqlite"},
		{"engine", []source{{dir: "orchestrator/internal/engine",
			testImports: []string{"orchestrator/internal/journal/sqlite"}}}, ""},
		{"participants", []source{
			{dir: "services/card", imports: []string{"participant"}},
			{dir: "participant", imports: []string{"orchestrator/internal/telemetry"}},
		}, "services/card must not reach orchestrator/internal/telemetry (services/card -> participant -> " +
			"orchestrator/internal/telemetry)"},
		{"card and the other participants", []source{{dir: "services/card", imports: []string{"services/credit"}}},
			"services/card must not import services/credit"},
		{"sagas", []source{{dir: "services/sagas",
			imports: []string{"orchestrator", "orchestrator/saga", "orchestrator/saga/sagatest"}}}, ""},
		{"sagas", []source{{dir: "services/sagas", imports: []string{"orchestrator/internal/machine"}}},
			"services/sagas must not import orchestrator/internal/machine"},
		{"internal packages", []source{{dir: "services/card", imports: []string{"internal/wire"}}},
			"services/card must not import internal/wire"},
		{"internal packages", []source{{dir: "services/card", imports: []string{"services/internal/process"}}}, ""},
		{"tlsfiles", []source{{dir: "internal/tlsfiles", imports: []string{"crypto/tls", "internal/wire"}}},
			"internal/tlsfiles must not import internal/wire"},
		{"cli", []source{{dir: "cmd/treaty", imports: []string{"internal/wire"}}}, ""},
		{"cli", []source{{dir: "cmd/treaty", imports: []string{"orchestrator/contract"}}},
			"cmd/treaty must not import orchestrator/contract"},
		{"commands", []source{{dir: "services/demo", testImports: []string{"cmd/treaty/internal/cli"}}},
			"services/demo must not import cmd/treaty/internal/cli"},
		{"test support", []source{{dir: "orchestrator",
			imports: []string{"orchestrator/internal/journal/journaltest"}}},
			"orchestrator must not import orchestrator/internal/journal/journaltest"},
		{"test support", []source{{dir: "orchestrator",
			testImports: []string{"testing", "orchestrator/saga/sagatest"}}}, ""},
		{"test support", []source{{dir: "orchestrator/saga/sagatest", imports: []string{"testing"}}}, ""},
		{"generated messages and stubs", []source{{dir: "gen/acme/card/v1", imports: []string{"orchestrator/saga"}}},
			"gen/acme/card/v1 must not import orchestrator/saga"},
		{"generated saga code", []source{{dir: "gen/acme/card/v1/cardv1saga", imports: []string{"orchestrator/saga"}}},
			""},
	}
	for _, s := range scenarios {
		t.Run(s.rule+"/"+path.Base(s.packages[0].dir), func(t *testing.T) {
			packages := make(map[string]*source)
			for i := range s.packages {
				packages[s.packages[i].dir] = &s.packages[i]
			}
			at := slices.IndexFunc(rules, func(r rule) bool { return r.name == s.rule })
			if at < 0 {
				t.Fatalf("there is no rule %q", s.rule)
			}
			if got := strings.Join(rules[at].check(packages), "\n"); got != s.want {
				t.Errorf("found %q, want %q", got, s.want)
			}
		})
	}
}
