package contracts

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bufbuild/protocompile"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/treatyhq/treaty/cmd/treaty/internal/schema"
	_ "github.com/treatyhq/treaty/gen/treaty/v1" // the annotations
	"github.com/treatyhq/treaty/internal/testkit"
)

var update = flag.Bool("update", false, "write the golden files")

const (
	stockPath  = "stock/v1/stock_service.proto"
	legacyPath = "stock/v1/legacy.proto"

	stockService = "stock.v1.StockService"
	auditService = "stock.v1.AuditService"

	timeout = 10 * time.Second

	placeOrder = "shop.v1.OrderSagas/PlaceOrder"
	refill     = "shop.v1.OrderSagas/Refill"
)

// sources returns the contracts of the stock service.
func sources(t testing.TB) map[string]string {
	t.Helper()
	out := make(map[string]string)
	for _, path := range []string{stockPath, legacyPath} {
		text, err := os.ReadFile(filepath.Join("testdata", filepath.FromSlash(path)))
		if err != nil {
			t.Fatal(err)
		}
		out[path] = string(text)
	}
	return out
}

// compile compiles contracts. They import the annotations that are built into the test.
func compile(t testing.TB, sources map[string]string) *protoregistry.Files {
	t.Helper()
	builtIn := protocompile.ResolverFunc(func(path string) (protocompile.SearchResult, error) {
		file, err := protoregistry.GlobalFiles.FindFileByPath(path)
		return protocompile.SearchResult{Desc: file}, err
	})
	written := protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(sources)}
	compiler := protocompile.Compiler{Resolver: protocompile.CompositeResolver{&written, builtIn}}
	compiled, err := compiler.Compile(t.Context(), slices.Sorted(maps.Keys(sources))...)
	if err != nil {
		t.Fatal(err)
	}
	// Convert through bytes, as over the wire, so that the annotations have the types of the generated code.
	set := new(descriptorpb.FileDescriptorSet)
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		set.File = append(set.File, protodesc.ToFileDescriptorProto(file))
		return true
	})
	for _, file := range compiled {
		raw, err := proto.Marshal(protodesc.ToFileDescriptorProto(file))
		if err != nil {
			t.Fatal(err)
		}
		file := new(descriptorpb.FileDescriptorProto)
		if err := proto.Unmarshal(raw, file); err != nil {
			t.Fatal(err)
		}
		set.File = append(set.File, file)
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// fileOf returns a compiled file.
func fileOf(t testing.TB, files *protoregistry.Files, path string) protoreflect.FileDescriptor {
	t.Helper()
	file, err := files.FindFileByPath(path)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// expected returns what two sagas expect of the services.
func expected(t testing.TB) *File { return expectedOf(t, sources(t)) }

func expectedOf(t testing.TB, sources map[string]string) *File {
	t.Helper()
	services := fileOf(t, compile(t, sources), stockPath).Services()
	method := func(service, name string) protoreflect.MethodDescriptor {
		found := services.ByName(protoreflect.FullName(service).Name())
		return found.Methods().ByName(protoreflect.Name(name))
	}
	looksFor := []protoreflect.FullName{"stock.v1.SoldOut", "payment.v1.CardDeclined"}
	file, err := New([]Use{
		{Saga: placeOrder, Method: method(stockService, "Reserve"), Handles: looksFor},
		{Saga: placeOrder, Method: method(stockService, "Ship"), Handles: looksFor},
		{Saga: refill, Method: method(stockService, "Reserve")},
		{Saga: refill, Method: method(auditService, "Audit")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// server is the participant that serves contracts.
type server struct {
	sources   map[string]string
	hides     []string // services that aren't served
	noV1      bool
	noV1Alpha bool
}

type served map[string]grpc.ServiceInfo

func (s served) GetServiceInfo() map[string]grpc.ServiceInfo { return s }

// start serves the contracts by reflection, and returns a connection.
func (s server) start(t *testing.T) grpc.ClientConnInterface {
	t.Helper()
	files := compile(t, s.sources)
	services := served{"grpc.reflection.v1.ServerReflection": {}, "treaty.v1.ParticipantService": {}}
	for path := range s.sources {
		all := fileOf(t, files, path).Services()
		for i := range all.Len() {
			if name := string(all.Get(i).FullName()); !slices.Contains(s.hides, name) {
				services[name] = grpc.ServiceInfo{}
			}
		}
	}
	options := reflection.ServerOptions{Services: services, DescriptorResolver: files}
	grpcServer := grpc.NewServer()
	if !s.noV1 {
		reflectionv1.RegisterServerReflectionServer(grpcServer, reflection.NewServerV1(options))
	}
	if !s.noV1Alpha {
		reflectionv1alpha.RegisterServerReflectionServer(grpcServer, reflection.NewServer(options))
	}
	return testkit.Dial(t, testkit.Serve(t, grpcServer))
}

// schemaOf asks a server for its types. Each question may take a time.
func schemaOf(t *testing.T, conn grpc.ClientConnInterface, timeout time.Duration) *schema.Schema {
	t.Helper()
	types := schema.New(t.Context(), conn, timeout)
	t.Cleanup(types.Close)
	return types
}

func check(t *testing.T, s server, services ...protoreflect.FullName) *Report {
	t.Helper()
	report, err := Check(schemaOf(t, s.start(t), timeout), expected(t), services)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func texts(findings []Finding) []string {
	var out []string
	for _, finding := range findings {
		out = append(out, finding.String())
	}
	return out
}

// TestCheck changes the contracts in one place each, and compares what is found with what should be.
func TestCheck(t *testing.T) {
	const (
		reserve = stockService + "/Reserve: "
		request = reserve + "request stock.v1.ReserveRequest: "
		reply   = reserve + "reply stock.v1.Reserved: "
		state   = reserve + "reply stock.v1.Reserved, in stock.v1.State: "
		place   = reserve + "request stock.v1.ReserveRequest, in stock.v1.Place: "
		ship    = stockService + "/Ship: "
		legacy  = ship + "request stock.v1.ShipRequest, in stock.v1.Legacy: "
	)
	for _, test := range []struct {
		name     string
		from, to string
		problems []string
		notes    []string
	}{
		{name: "unchanged"},

		// What breaks nothing.
		{name: "new field", from: "string item = 1;", to: "string item = 1;\nstring colour = 9;"},
		{name: "new method", from: "service StockService {",
			to: "service StockService {\nrpc Ping(Closed) returns (Closed);"},
		{name: "a method that no saga calls", from: "rpc CountItems", to: "rpc Count"},
		{name: "other times", from: "pivot: {}", to: "pivot: {} timeout: {seconds: 7}"},
		{name: "new rejection", from: `"stock.v1.Closed"]`, to: `"stock.v1.Closed", "stock.v1.Counted"]`,
			notes: []string{
				reserve + "the rejection stock.v1.Counted is new; saga code treats it like any other refusal",
			}},
		{name: "a rejection that no saga handles is gone", from: `, "stock.v1.Closed"]`, to: `]`},
		{name: "new value", from: "STATE_QUEUED = 2;", to: "STATE_QUEUED = 2;\nSTATE_LOST = 3;",
			notes: []string{state + "value STATE_LOST is new; saga code doesn't know it"}},

		// Methods.
		{name: "method removed",
			from: "  rpc Ship(ShipRequest) returns (Shipped) {\n" +
				"    option (treaty.v1.command) = {pivot: {}};\n  }\n",
			problems: []string{ship + "the method was removed"}},
		{name: "method renamed", from: "rpc Ship(", to: "rpc Send(",
			problems: []string{ship + "the method was removed, or renamed to Send"}},
		{name: "request renamed", from: "ShipRequest", to: "SendRequest",
			problems: []string{ship + "request: was stock.v1.ShipRequest, is stock.v1.SendRequest"}},
		{name: "reply replaced", from: "returns (Shipped)", to: "returns (Released)",
			problems: []string{ship + "reply: was stock.v1.Shipped, is stock.v1.Released"}},
		{name: "streams", from: "rpc Ship(ShipRequest) returns (Shipped)",
			to:       "rpc Ship(ShipRequest) returns (stream Shipped)",
			problems: []string{ship + "the method was unary, and streams"}},

		// Annotations.
		{name: "kind changed", from: "{pivot: {}}", to: "{retriable: {}}",
			problems: []string{ship + "kind: was pivot, is retriable"}},
		{name: "no command", from: "    option (treaty.v1.command) = {pivot: {}};\n",
			problems: []string{ship + "kind: was pivot, is no command"}},
		{name: "compensation is a command", from: "returns (Released);",
			to:       "returns (Released) { option (treaty.v1.command) = {pivot: {}}; }",
			problems: []string{stockService + "/Release: kind: was compensation, is pivot"}},
		{name: "compensation changed", from: `compensated_by: "Release"`, to: `compensated_by: "CountItems"`,
			problems: []string{reserve + "compensated_by: was Release, is CountItems"}},
		{name: "compensation renamed", from: `"Release"`, to: `"Free"`,
			problems: []string{
				reserve + "compensated_by: was Release, is Free",
				stockService + "/Release: the method was removed, or renamed to Free",
			}},
		{name: "a handled rejection is gone", from: `"stock.v1.SoldOut", `,
			problems: []string{
				reserve + "the rejection stock.v1.SoldOut, which saga code handles, is no longer declared",
			}},

		// Fields.
		{name: "field removed", from: "  string item = 1;\n",
			problems: []string{request + "field 1 item: was removed"}},
		{name: "field renamed", from: "string item = 1;", to: "string article = 1;",
			problems: []string{request + "field 1 item: was renamed to article"}},
		{name: "field renumbered", from: "int32 quantity = 2;", to: "int32 quantity = 12;",
			problems: []string{request + "field 2 quantity: its number is now 12"}},
		{name: "field retyped", from: "int32 quantity = 2;", to: "int64 quantity = 2;",
			problems: []string{request + "field 2 quantity: was int32, is int64"}},
		{name: "field renamed and retyped", from: "string reservation = 1;\n  State", to: "int64 id = 1;\n  State",
			problems: []string{
				reply + "field 1 reservation: was renamed to id",
				reply + "field 1 reservation: was string, is int64",
			}},
		{name: "two fields swapped", from: "string item = 1;\n  int32 quantity = 2;",
			to: "string item = 2;\n  int32 quantity = 1;",
			problems: []string{
				request + "field 1 item: its number is now 2", request + "field 2 quantity: its number is now 1",
			}},
		{name: "repeated", from: "string item = 1;", to: "repeated string item = 1;",
			problems: []string{request + "field 1 item: was singular without presence, is repeated"}},
		{name: "no longer repeated", from: "repeated Place alternatives", to: "Place alternatives",
			problems: []string{place + "field 2 alternatives: was repeated, is singular"}},
		{name: "presence", from: "optional string note", to: "string note",
			problems: []string{request + "field 3 note: was optional, is singular without presence"}},
		{name: "into a oneof", from: "string item = 1;\n", to: "oneof what { string item = 1; }\n",
			problems: []string{request + "field 1 item: was singular without presence, is in oneof what"}},
		{name: "out of a oneof", from: "oneof who {\n    string person = 6;", to: "string person = 6;\n  oneof who {",
			problems: []string{request + "field 6 person: was in oneof who, is singular without presence"}},
		{name: "oneof renamed", from: "oneof who", to: "oneof whom",
			problems: []string{
				request + "field 6 person: was in oneof who, is in oneof whom",
				request + "field 7 company: was in oneof who, is in oneof whom",
			}},
		{name: "map retyped", from: "map<string, Place>", to: "map<int32, Place>",
			problems: []string{
				request + "field 5 places: was map<string, stock.v1.Place>, is map<int32, stock.v1.Place>",
			}},
		{name: "map no longer", from: "map<string, Place> places", to: "repeated Place places",
			problems: []string{
				request + "field 5 places: was map<string, stock.v1.Place>, is stock.v1.Place",
				request + "field 5 places: was a map, is repeated",
			}},
		{name: "message of a field renamed", from: "Company", to: "Business",
			problems: []string{request + "field 7 company: was stock.v1.Company, is stock.v1.Business"}},
		{name: "field of an inner message", from: "string shelf = 1;", to: "bytes shelf = 1;",
			problems: []string{place + "field 1 shelf: was string, is bytes"}},
		{name: "field of a rejection", from: "int32 left = 1;", to: "string left = 1;",
			problems: []string{reserve + "rejection stock.v1.SoldOut: field 1 left: was int32, is string"}},
		{name: "field of a rejection that no saga handles", from: "string until = 1;", to: "int32 until = 1;"},
		{name: "field of a compensation", from: "Reserved reply = 2;", to: "Reserved reply = 3;",
			problems: []string{
				stockService + "/Release: request stock.v1.ReleaseRequest: field 2 reply: its number is now 3",
			}},
		{name: "well-known type", from: "google.protobuf.Timestamp until", to: "string until",
			problems: []string{reply + "field 4 until: was google.protobuf.Timestamp, is string"}},

		// Enums.
		{name: "value removed", from: "  STATE_QUEUED = 2;\n",
			problems: []string{state + "value STATE_QUEUED: was removed"}},
		{name: "value renamed", from: "STATE_QUEUED", to: "STATE_WAITING",
			problems: []string{state + "value STATE_QUEUED: was renamed to STATE_WAITING"}},
		{name: "value renumbered", from: "STATE_QUEUED = 2", to: "STATE_QUEUED = 5",
			problems: []string{state + "value STATE_QUEUED: was 2, is 5"},
			notes:    []string{state + "value STATE_QUEUED is new; saga code doesn't know it"}},
		{name: "enum renamed", from: "State", to: "Condition",
			problems: []string{
				reply + "field 2 state: was enum stock.v1.State, is enum stock.v1.Condition",
				ship + "reply stock.v1.Shipped: field 1 states: " +
					"was map<int64, enum stock.v1.State>, is map<int64, enum stock.v1.Condition>",
			}},

		// proto2.
		{name: "required no longer", from: "required string code", to: "optional string code",
			problems: []string{legacy + "field 1 code: was required, is optional"}},
		{name: "new and required", from: "required string code = 1;",
			to:       "required string code = 1;\nrequired string country = 9;",
			problems: []string{legacy + "field 9 country: is new and required"}},
		{name: "group no longer", from: "optional group Box = 3 {", to: "optional Box box = 3;\nmessage Box {",
			problems: []string{legacy + "field 3 box: was group stock.v1.Legacy.Box, is stock.v1.Legacy.Box"}},

		// Services.
		{name: "service moved", from: "service AuditService", to: "service AuditsService",
			problems: []string{auditService + ": it isn't served; it may have been renamed to stock.v1.AuditsService"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			changed := sources(t)
			found := test.from == ""
			for path, text := range changed {
				found = found || strings.Contains(text, test.from)
				if test.from != "" {
					changed[path] = strings.ReplaceAll(text, test.from, test.to)
				}
			}
			if test.name == "compensation renamed" {
				changed[stockPath] = strings.Replace(changed[stockPath], "rpc Release(", "rpc Free(", 1)
			}
			if !found {
				t.Fatalf("the contracts have no %q", test.from)
			}
			report := check(t, server{sources: changed})
			if diff := cmp.Diff(test.problems, texts(report.Problems)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.notes, texts(report.Notes)); diff != "" {
				t.Errorf("notes (-want +got):\n%s", diff)
			}
		})
	}
}

// TestCheckWithoutOptions has a participant whose server reflection leaves out the options of methods.
func TestCheckWithoutOptions(t *testing.T) {
	plain := regexp.MustCompile(`(?s)option \(treaty\.v1\.command\) = \{.*?\n?\s*\};`)
	changed := sources(t)
	changed[stockPath] = plain.ReplaceAllString(changed[stockPath], "")
	changed[stockPath] = strings.ReplaceAll(changed[stockPath], `import "treaty/v1/options.proto";`, "")
	changed[stockPath] = strings.ReplaceAll(changed[stockPath], "string item = 1;", "int64 item = 1;")
	const text = ": none of its methods has the option (treaty.v1.command) any more, or the participant's server " +
		"reflection leaves out options: nothing says what kinds, compensations and rejections are"
	want := []string{
		auditService + text,
		stockService + text,
		stockService + "/Reserve: request stock.v1.ReserveRequest: field 1 item: was string, is int64",
	}
	if diff := cmp.Diff(want, texts(check(t, server{sources: changed}).Problems)); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

// TestCheckServices says which services the participant must serve.
func TestCheckServices(t *testing.T) {
	moved := func(text string) string {
		return strings.ReplaceAll(text, "service AuditService", "service OtherService")
	}
	renamed := func(text string) string { return moved(strings.ReplaceAll(text, "rpc Audit(", "rpc Look(")) }
	const audit = "message M {} service AuditService { rpc Audit(M) returns (M); }"
	const books = "message M {} service BookService { rpc Audit(M) returns (M); }"
	for _, test := range []struct {
		name            string
		also            string // a contract of another service
		change          func(string) string
		hides           []string
		services        []protoreflect.FullName
		checked, absent []protoreflect.FullName
		problems        []string
	}{
		{name: "both", checked: []protoreflect.FullName{auditService, stockService}},
		{name: "the other participant's", hides: []string{auditService},
			checked: []protoreflect.FullName{stockService}, absent: []protoreflect.FullName{auditService}},
		{name: "one of both", services: []protoreflect.FullName{stockService},
			checked: []protoreflect.FullName{stockService}},
		{name: "missing", hides: []string{auditService}, services: []protoreflect.FullName{auditService},
			absent:   []protoreflect.FullName{auditService},
			problems: []string{auditService + ": it isn't served; the participant serves stock.v1.StockService"}},
		{name: "none is served", hides: []string{auditService, stockService},
			absent: []protoreflect.FullName{auditService, stockService},
			problems: []string{
				auditService + ": it isn't served; the participant serves nothing",
				stockService + ": it isn't served; the participant serves nothing",
			}},
		{name: "moved", change: moved, checked: []protoreflect.FullName{stockService},
			absent:   []protoreflect.FullName{auditService},
			problems: []string{auditService + ": it isn't served; it may have been renamed to stock.v1.OtherService"}},
		{name: "moved to another package", also: "package stock.v2; " + audit,
			hides: []string{auditService}, checked: []protoreflect.FullName{stockService},
			absent:   []protoreflect.FullName{auditService},
			problems: []string{auditService + ": it isn't served; it may have been renamed to stock.v2.AuditService"}},
		{name: "another service with such a method", also: "package books.v1; " + books,
			hides: []string{auditService}, checked: []protoreflect.FullName{stockService},
			absent: []protoreflect.FullName{auditService}},
		{name: "another service with other methods", change: renamed,
			checked: []protoreflect.FullName{stockService}, absent: []protoreflect.FullName{auditService}},
	} {
		t.Run(test.name, func(t *testing.T) {
			served := sources(t)
			if test.also != "" {
				served["also.proto"] = `syntax = "proto3"; ` + test.also
			}
			if test.change != nil {
				served[stockPath] = test.change(served[stockPath])
			}
			report := check(t, server{sources: served, hides: test.hides}, test.services...)
			if diff := cmp.Diff(test.checked, report.Checked); diff != "" {
				t.Errorf("checked (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.absent, report.Absent); diff != "" {
				t.Errorf("absent (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.problems, texts(report.Problems)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

// TestFindingNamesSagas shows who is affected: the sagas that call the method, and for a message all that send or
// receive it.
func TestFindingNamesSagas(t *testing.T) {
	changed := sources(t)
	changed[stockPath] = strings.ReplaceAll(changed[stockPath], "string item = 1;", "int64 item = 1;")
	changed[stockPath] = strings.ReplaceAll(changed[stockPath], "{pivot: {}}", "{retriable: {}}")
	got := make(map[string][]string)
	for _, finding := range check(t, server{sources: changed}).Problems {
		got[finding.Subject] = finding.Sagas
	}
	want := map[string][]string{stockService + "/Reserve": {placeOrder, refill}, stockService + "/Ship": {placeOrder}}
	// Ship is called by one of the sagas, and its message is part of a message that both send.
	changed[stockPath] = strings.Replace(sources(t)[stockPath], "rpc Ship(ShipRequest)", "rpc Ship(Place)", 1)
	file := expectedOf(t, changed)
	changed[stockPath] = strings.ReplaceAll(changed[stockPath], "string shelf = 1;", "bytes shelf = 1;")
	changed[stockPath] = strings.ReplaceAll(changed[stockPath], "rpc Reserve(ReserveRequest)", "rpc Reserve(Company)")
	report, err := Check(schemaOf(t, server{sources: changed}.start(t), timeout), file, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, finding := range report.Problems {
		if strings.Contains(finding.Text, "shelf") {
			got["shelf"] = finding.Sagas
		}
	}
	want["shelf"] = []string{placeOrder, refill}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestText compares the report for people.
func TestText(t *testing.T) {
	retyped := sources(t)
	retyped[stockPath] = strings.ReplaceAll(retyped[stockPath], "int32 quantity = 2;", "int64 quantity = 2;")
	retyped[stockPath] = strings.ReplaceAll(retyped[stockPath], "{pivot: {}}", "{query: {}}")
	retyped[stockPath] = strings.ReplaceAll(retyped[stockPath], "QUEUED = 2;", "QUEUED = 2;\nSTATE_LOST = 3;")
	for _, test := range []struct {
		name   string
		server server
		want   string
	}{
		{"holds", server{sources: sources(t)},
			"The participant meets what sagas expect of stock.v1.AuditService, stock.v1.StockService.\n"},
		{"holds for one", server{sources: sources(t), hides: []string{auditService}},
			"The participant meets what sagas expect of stock.v1.StockService.\n" +
				"Not served here, so not checked: stock.v1.AuditService.\n"},
		{"problems", server{sources: retyped, hides: []string{auditService}}, `stock.v1.StockService/Reserve: ` +
			`request stock.v1.ReserveRequest: field 2 quantity: was int32, is int64
  needed by shop.v1.OrderSagas/PlaceOrder, shop.v1.OrderSagas/Refill
stock.v1.StockService/Ship: kind: was pivot, is query
  needed by shop.v1.OrderSagas/PlaceOrder
Note: stock.v1.StockService/Reserve: reply stock.v1.Reserved, in stock.v1.State: ` +
			`value STATE_LOST is new; saga code doesn't know it
2 problems for stock.v1.StockService.
Not served here, so not checked: stock.v1.AuditService.
`},
		{"another participant", server{sources: sources(t), hides: []string{auditService, stockService}},
			`stock.v1.AuditService: it isn't served; the participant serves nothing
  needed by shop.v1.OrderSagas/Refill
stock.v1.StockService: it isn't served; the participant serves nothing
  needed by shop.v1.OrderSagas/PlaceOrder, shop.v1.OrderSagas/Refill
2 problems.
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			report := check(t, test.server)
			if diff := cmp.Diff(test.want, report.Text()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if report.Holds() != (len(report.Problems) == 0) {
				t.Errorf("holds: %v, with %d problems", report.Holds(), len(report.Problems))
			}
		})
	}
}

// TestReflectionVersions asks servers with one version of the reflection, and with none.
func TestReflectionVersions(t *testing.T) {
	for _, test := range []struct {
		name            string
		noV1, noV1Alpha bool
		want            string
	}{
		{name: "both"},
		{name: "v1", noV1Alpha: true},
		{name: "v1alpha", noV1: true},
		{name: "none", noV1: true, noV1Alpha: true, want: "the participant has no server reflection, neither " +
			"grpc.reflection.v1 nor v1alpha: register it at its server"},
	} {
		t.Run(test.name, func(t *testing.T) {
			participant := server{sources: sources(t), noV1: test.noV1, noV1Alpha: test.noV1Alpha}
			report, err := Check(schemaOf(t, participant.start(t), timeout), expected(t), nil)
			switch {
			case test.want == "" && err != nil:
				t.Fatal(err)
			case test.want == "" && (len(report.Checked) != 2 || len(report.Problems) != 0):
				t.Errorf("got %+v", report)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) ||
				status.Code(err) != codes.Unimplemented):
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// TestCantCheck has targets and questions for which nothing can be compared.
func TestCantCheck(t *testing.T) {
	t.Run("nobody listens", func(t *testing.T) {
		conn := testkit.Dial(t, testkit.UnusedAddress(t))
		_, err := Check(schemaOf(t, conn, timeout), expected(t), nil)
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "asking the participant") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no answer", func(t *testing.T) {
		silent := testkit.Listen(t) // it accepts no connection
		conn := testkit.Dial(t, silent.Addr().String())
		_, err := Check(schemaOf(t, conn, 50*time.Millisecond), expected(t), nil)
		if err == nil || !strings.Contains(err.Error(), "asking the participant") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a service that isn't in the file", func(t *testing.T) {
		conn := server{sources: sources(t)}.start(t)
		_, err := Check(schemaOf(t, conn, timeout), expected(t), []protoreflect.FullName{"stock.v1.Stocks"})
		const want = "the file expects nothing of stock.v1.Stocks: it is about stock.v1.AuditService, " + stockService
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	})
}
