// Package drifttest has a contract, and changes of it that break it or don't. What compares contracts is tested with
// them.
package drifttest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	_ "github.com/treatyhq/treaty/gen/treaty/v1" // the annotations
)

// The service and its methods. Release compensates Reserve. Count has no types in common with the others.
const (
	Service = "drift.v1.StockService"
	Reserve = Service + "/Reserve"
	Release = Service + "/Release"
	Ship    = Service + "/Ship"
	Count   = Service + "/Count"
)

// Path and OldPath are the paths of the files.
const (
	Path    = "drift/v1/stock_service.proto"
	OldPath = "drift/v1/old.proto"
)

const contract = `syntax = "proto3";
package drift.v1;
import "drift/v1/old.proto";
import "google/protobuf/timestamp.proto";
import "treaty/v1/options.proto";

service StockService {
  rpc Reserve(ReserveRequest) returns (Reserved) {
    option (treaty.v1.command) = {compensated_by: "Release" rejections: ["drift.v1.SoldOut"]};
  }
  rpc Release(ReleaseRequest) returns (Released);
  rpc Ship(ShipRequest) returns (Shipped) {
    option (treaty.v1.command) = {pivot: {} complete_within: {seconds: 60}};
  }
  rpc Count(CountRequest) returns (Counted) {
    option (treaty.v1.command) = {query: {}};
  }
}
message ReserveRequest {
  int32 amount = 1;
  string item = 2;
  repeated int32 shelves = 3;
  map<string, int32> tags = 4;
  Size size = 5;
  Part part = 6;
  string buyer = 7;
  string seller = 8;
  oneof speed {
    bool fast = 9;
    bool slow = 10;
  }
  optional int32 limit = 11;
  google.protobuf.Timestamp time = 12;
}
message Part {
  string name = 1;
  Part inner = 2;
}
enum Size {
  SIZE_UNSPECIFIED = 0;
  SIZE_SMALL = 1;
  SIZE_LARGE = 2;
}
message Reserved {
  string reservation_id = 1;
  Colour colour = 2;
  oneof left {
    int64 left_pieces = 3;
    string left_text = 4;
  }
}
enum Colour {
  COLOUR_UNSPECIFIED = 0;
  COLOUR_RED = 1;
}
message ReleaseRequest {
  ReserveRequest action = 1;
  Reserved reply = 2;
  string reason = 3;
}
message Released {}
message ShipRequest {
  string address = 1;
  Old old = 2;
}
message Shipped { int64 parcel = 1; }
message CountRequest {}
message Counted { int64 count = 1; }
message SoldOut { string item = 1; }
`

const old = `syntax = "proto2";
package drift.v1;
message Old {
  required string code = 1;
  optional int32 weight = 2 [default = 5];
  optional Grade grade = 3;
  optional group Box = 4 { optional int32 width = 1; }
}
enum Grade {
  GRADE_A = 1;
  GRADE_B = 2;
}
`

// Case is a change of the participant's contract.
type Case struct {
	// Name says what changes.
	Name string

	// From is replaced by To, wherever it is.
	From, To string

	// Breaks are the methods whose contract it breaks. Without any, the change is harmless.
	Breaks []string

	// Where is what the differences are about: "drift.v1.ReserveRequest.amount", a message, or a method. It is empty if
	// there is no difference.
	Where string
}

// Both are Reserve and its compensation, whose request contains the messages of Reserve.
func both() []string { return []string{Reserve, Release} }

// Breaking returns changes that break the contract.
func Breaking() []Case {
	const (
		request = "drift.v1.ReserveRequest"
		reply   = "drift.v1.Reserved"
	)
	ship := []string{Ship}
	return []Case{
		{"a method is gone", "  rpc Ship(ShipRequest) returns (Shipped) {\n    option (treaty.v1.command) = " +
			"{pivot: {} complete_within: {seconds: 60}};\n  }\n", "", ship, Ship},
		{"a method is renamed", "rpc Ship(", "rpc Send(", ship, Ship},
		{"a method streams", "rpc Ship(ShipRequest) returns (", "rpc Ship(ShipRequest) returns (stream ", ship, Ship},
		{"the service is renamed", "service StockService", "service WareService",
			[]string{Reserve, Release, Ship, Count}, ""},
		{"the compensation is gone", "  rpc Release(ReleaseRequest) returns (Released);\n", "", []string{Release},
			Release},

		{"int32 to sint32", "int32 amount", "sint32 amount", both(), request + ".amount"},
		{"int32 to string", "int32 amount", "string amount", both(), request + ".amount"},
		{"int32 to fixed32", "int32 amount", "fixed32 amount", both(), request + ".amount"},
		{"int64 to int32 in a reply's reader", "int64 parcel", "uint64 parcel", ship, "drift.v1.Shipped.parcel"},
		{"string to bytes in a reply", "string reservation_id", "bytes reservation_id", []string{Reserve},
			reply + ".reservation_id"},
		{"a scalar to a message", "string item = 2", "Part item = 2", both(), request + ".item"},
		{"another message", "Part part = 6", "SoldOut part = 6", both(), "drift.v1.Part.inner"},
		{"a number", "string item = 2", "string item = 22", both(), request + ".item"},
		{"two numbers", "string buyer = 7;\n  string seller = 8", "string buyer = 8;\n  string seller = 7", both(),
			request + ".buyer"},
		{"a field of a request is removed", "  string item = 2;\n", "", both(), request + ".item"},
		{"a field of a reply is removed", "string reservation_id = 1;", "", both(), reply + ".reservation_id"},
		{"a field of an inner message", "  string name = 1;\n  Part", "  int64 name = 1;\n  Part", both(),
			"drift.v1.Part.name"},
		{"one value to several", "string item = 2", "repeated string item = 2", both(), request + ".item"},
		{"several values to one", "repeated int32 shelves", "int32 shelves", both(), request + ".shelves"},
		{"a map to a list", "map<string, int32> tags", "repeated Part tags", both(), request + ".tags"},
		{"the keys of a map", "map<string, int32>", "map<int32, int32>", both(), request + ".tags"},
		{"the values of a map", "map<string, int32>", "map<string, sint32>", both(), request + ".tags"},
		{"presence for who reads", "int32 amount", "optional int32 amount", both(), request + ".amount"},
		{"fields become a oneof", "string buyer = 7;\n  string seller = 8;",
			"oneof who {\n string buyer = 7;\n  string seller = 8;\n }", both(), request + ".buyer"},
		{"fields of a reply leave a oneof",
			"  oneof left {\n    int64 left_pieces = 3;\n    string left_text = 4;\n  }",
			"int64 left_pieces = 3; string left_text = 4;", []string{Reserve}, reply + ".left_pieces"},
		{"a field joins another oneof", "    bool slow = 10;\n  }\n  optional int32 limit = 11;",
			"    bool slow = 10;\n int32 limit = 11;\n  }", both(), request + ".fast"},

		{"a value of an enum is removed", "  SIZE_LARGE = 2;\n", "", both(), "drift.v1.Size.SIZE_LARGE"},
		{"a value of an enum is renumbered", "SIZE_LARGE = 2", "SIZE_LARGE = 3", both(), "drift.v1.Size.SIZE_LARGE"},
		{"two values of an enum", "SIZE_SMALL = 1;\n  SIZE_LARGE = 2", "SIZE_SMALL = 2;\n  SIZE_LARGE = 1", both(),
			"drift.v1.Size.SIZE_SMALL"},
		{"an enum to a number in a reply", "Colour colour", "int32 colour", []string{Reserve}, reply + ".colour"},

		{"required for who reads", "optional int32 weight = 2 [default = 5]", "required int32 weight = 2", ship,
			"drift.v1.Old.weight"},
		{"a new required field", "required string code = 1;", "required string code = 1; required string more = 9;",
			ship, "drift.v1.Old.more"},
		{"a default", "[default = 5]", "[default = 6]", ship, "drift.v1.Old.weight"},
		{"a group to a message", "optional group Box = 4 { optional int32 width = 1; }",
			"message Box { optional int32 width = 1; } optional Box box = 4;", ship, "drift.v1.Old.box"},

		{"the kind", "{pivot: {} complete_within: {seconds: 60}}", "{retriable: {}}", ship, Ship},
		{"no command", "    option (treaty.v1.command) = {pivot: {} complete_within: {seconds: 60}};\n", "", ship,
			Ship},
		{"the compensation", `compensated_by: "Release"`, `compensated_by: "Count"`, []string{Reserve}, Reserve},
		{"a rejection", ` rejections: ["drift.v1.SoldOut"]`, "", []string{Reserve}, Reserve},
		{"a field of a rejection", "message SoldOut { string item", "message SoldOut { int32 item",
			[]string{Reserve}, "drift.v1.SoldOut.item"},
		{"completing later", " complete_within: {seconds: 60}", "", ship, Ship},
		{"only the compensation's own field", "string reason = 3", "int32 reason = 3", []string{Release},
			"drift.v1.ReleaseRequest.reason"},
	}
}

// Harmless returns changes that break nothing.
func Harmless() []Case {
	const request = "drift.v1.ReserveRequest"
	return []Case{
		{Name: "nothing"},
		{"a new field of a request", "int32 amount = 1;", "int32 amount = 1; string more = 99;", nil,
			request + ".more"},
		{"a new field of a reply", "int64 parcel = 1;", "int64 parcel = 1; string more = 99;", nil,
			"drift.v1.Shipped.more"},
		{"a new method", "service StockService {", "service StockService {\nrpc Ping(Part) returns (Part);", nil, ""},
		{"a renamed field", "string item = 2", "string thing = 2", nil, request + ".item"},
		{"a renamed message", "ReserveRequest", "OrderRequest", nil, request},
		{"a renamed enum", "Size", "Extent", nil, "drift.v1.Size"},
		{"a renamed value", "SIZE_LARGE", "SIZE_BIG", nil, "drift.v1.Size.SIZE_LARGE"},
		{"a new value", "SIZE_LARGE = 2;", "SIZE_LARGE = 2; SIZE_HUGE = 3;", nil, "drift.v1.Size.SIZE_HUGE"},
		{"a renamed oneof", "oneof speed", "oneof pace", nil, ""},
		{"a new field of a oneof", "bool slow = 10;", "bool slow = 10; bool never = 98;", nil, request + ".never"},
		{"fields of a request leave a oneof", "  oneof speed {\n    bool fast = 9;\n    bool slow = 10;\n  }",
			"bool fast = 9; bool slow = 10;", nil, request + ".fast"},
		{"unpacked", "repeated int32 shelves = 3", "repeated int32 shelves = 3 [packed = false]", nil, ""},
		{"a wider number", "int32 amount", "int64 amount", nil, request + ".amount"},
		{"string to bytes in a request", "string reason = 3", "bytes reason = 3", nil,
			"drift.v1.ReleaseRequest.reason"},
		{"no presence for who reads", "optional int32 limit", "int32 limit", nil, request + ".limit"},
		{"no longer required", "required string code", "optional string code", nil, "drift.v1.Old.code"},
		{"the order of fields", "int32 amount = 1;\n  string item = 2;", "string item = 2;\n  int32 amount = 1;", nil,
			""},
		{"JSON names and deprecation", "int32 amount = 1", `int32 amount = 1 [json_name = "n", deprecated = true]`,
			nil, ""},
		{"a new rejection", `["drift.v1.SoldOut"]`, `["drift.v1.SoldOut", "drift.v1.Part"]`, nil, Reserve},
		{"times", `compensated_by: "Release"`, `timeout: {seconds: 3} compensated_by: "Release"`, nil, ""},
	}
}

// Files compiles the contract after a change.
func Files(change Case) (*protoregistry.Files, error) {
	sources := map[string]string{Path: contract, OldPath: old}
	if change.From != "" {
		found := false
		for path, text := range sources {
			sources[path] = strings.ReplaceAll(text, change.From, change.To)
			found = found || sources[path] != text
		}
		if !found {
			return nil, fmt.Errorf("%s: the contract doesn't have %q", change.Name, change.From)
		}
	}
	return Compile(sources)
}

// Compile compiles sources, by their paths. They may import what is linked into the program.
func Compile(sources map[string]string) (*protoregistry.Files, error) {
	builtIn := protocompile.ResolverFunc(func(path string) (protocompile.SearchResult, error) {
		file, err := protoregistry.GlobalFiles.FindFileByPath(path)
		return protocompile.SearchResult{Desc: file}, err
	})
	written := protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(sources)}
	compiler := protocompile.Compiler{Resolver: protocompile.CompositeResolver{&written, builtIn}}
	compiled, err := compiler.Compile(context.Background(), slices.Sorted(maps.Keys(sources))...)
	if err != nil {
		return nil, err
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
			return nil, err
		}
		converted := new(descriptorpb.FileDescriptorProto)
		if err := proto.Unmarshal(raw, converted); err != nil {
			return nil, err
		}
		set.File = append(set.File, converted)
	}
	return protodesc.NewFiles(set)
}

// Methods returns the methods of the contract, by their names.
func Methods(files *protoregistry.Files) (map[string]protoreflect.MethodDescriptor, error) {
	found, err := files.FindDescriptorByName(Service)
	if err != nil {
		return nil, err
	}
	service, _ := found.(protoreflect.ServiceDescriptor)
	methods := make(map[string]protoreflect.MethodDescriptor)
	for i := range service.Methods().Len() {
		method := service.Methods().Get(i)
		methods[Service+"/"+string(method.Name())] = method
	}
	return methods, nil
}
