package contracts

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/treatyhq/treaty/internal/testkit"
)

// rawReflection answers each question about a symbol with the same files.
type rawReflection struct {
	reflectionv1.UnimplementedServerReflectionServer

	services []string
	files    [][]byte
}

func (r rawReflection) ServerReflectionInfo(stream reflectionv1.ServerReflection_ServerReflectionInfoServer) error {
	for {
		question, err := stream.Recv()
		if err != nil {
			return nil //nolint:nilerr // the caller has ended the stream
		}
		answer := new(reflectionv1.ServerReflectionResponse)
		switch question.GetMessageRequest().(type) {
		case *reflectionv1.ServerReflectionRequest_ListServices:
			list := new(reflectionv1.ListServiceResponse)
			for _, name := range r.services {
				list.Service = append(list.Service, &reflectionv1.ServiceResponse{Name: name})
			}
			answer.MessageResponse = &reflectionv1.ServerReflectionResponse_ListServicesResponse{
				ListServicesResponse: list,
			}
		case *reflectionv1.ServerReflectionRequest_FileContainingSymbol:
			answer.MessageResponse = &reflectionv1.ServerReflectionResponse_FileDescriptorResponse{
				FileDescriptorResponse: &reflectionv1.FileDescriptorResponse{FileDescriptorProto: r.files},
			}
		default:
			answer.MessageResponse = &reflectionv1.ServerReflectionResponse_ErrorResponse{
				ErrorResponse: &reflectionv1.ErrorResponse{ErrorCode: int32(codes.NotFound)},
			}
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

func (r rawReflection) start(t *testing.T) grpc.ClientConnInterface {
	t.Helper()
	server := grpc.NewServer()
	reflectionv1.RegisterServerReflectionServer(server, r)
	return testkit.Dial(t, testkit.Serve(t, server))
}

func marshal(t *testing.T, file *descriptorpb.FileDescriptorProto) []byte {
	t.Helper()
	raw, err := proto.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// asNode changes a file to what @grpc/reflection serves: it is named after its package, and lacks imports, the options
// of methods, and the marks of optional fields. Names of types are relative, and those of map entries are others. name
// spells the fields, in camel case unless the service keeps their case.
func asNode(file *descriptorpb.FileDescriptorProto, name func(string) string) {
	file.Name = new(strings.ReplaceAll(file.GetPackage(), ".", "_") + ".proto")
	file.Dependency = nil
	for _, service := range file.GetService() {
		for _, method := range service.GetMethod() {
			method.Options = nil
		}
	}
	var messages func(all []*descriptorpb.DescriptorProto)
	messages = func(all []*descriptorpb.DescriptorProto) {
		for _, message := range all {
			for _, field := range message.GetField() {
				field.Proto3Optional, field.JsonName = nil, nil
				original := field.GetName()
				field.Name = new(name(original))
				if field.TypeName == nil {
					continue
				}
				field.TypeName = new(strings.TrimPrefix(strings.TrimPrefix(field.GetTypeName(), "."),
					file.GetPackage()+"."))
				for _, entry := range message.GetNestedType() {
					if entry.GetOptions().GetMapEntry() && strings.HasSuffix(field.GetTypeName(), "."+entry.GetName()) {
						entry.Name = new(strings.ToUpper(original[:1]) + original[1:])
						field.TypeName = entry.Name
					}
				}
			}
			messages(message.GetNestedType())
		}
	}
	messages(file.GetMessageType())
}

func same(name string) string { return name }

func camel(name string) string {
	parts := strings.Split(name, "_")
	for i, part := range parts[1:] {
		parts[i+1] = strings.ToUpper(part[:1]) + part[1:]
	}
	return strings.Join(parts, "")
}

// TestCheckNode checks a participant whose descriptors were made by @grpc/reflection for Node.
func TestCheckNode(t *testing.T) {
	const left = ": the participant's server reflection leaves out the options of methods, as that for Node does: " +
		"kinds, compensations and rejections aren't compared"
	notes := []string{auditService + left, stockService + left}
	for _, test := range []struct {
		name     string
		from, to string
		spell    func(string) string
		problems []string
	}{
		{name: "unchanged", spell: same},
		{name: "in camel case", spell: camel},
		{name: "kind changed", from: "{pivot: {}}", to: "{retriable: {}}", spell: same},
		{name: "field renamed", from: "int32 in_stock", to: "int32 at_hand", spell: camel, problems: []string{
			stockService + "/Reserve: reply stock.v1.Reserved: field 5 in_stock: was renamed to atHand",
		}},
		{name: "field renumbered", from: "int32 in_stock = 5", to: "int32 in_stock = 9", spell: camel,
			problems: []string{
				stockService + "/Reserve: reply stock.v1.Reserved: field 5 in_stock: its number is now 9",
			}},
		{name: "optional no longer", from: "optional string note", to: "string note", spell: same, problems: []string{
			stockService + "/Reserve: request stock.v1.ReserveRequest: field 3 note: " +
				"was optional, is singular without presence",
		}},
		{name: "map retyped", from: "map<string, Place>", to: "map<string, Company>", spell: same, problems: []string{
			stockService + "/Reserve: request stock.v1.ReserveRequest: field 5 places: " +
				"was map<string, stock.v1.Place>, is map<string, stock.v1.Company>",
		}},
		{name: "field of a rejection", from: "int32 left = 1;", to: "string left = 1;", spell: same, problems: []string{
			stockService + "/Reserve: rejection stock.v1.SoldOut: field 1 left: was int32, is string",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			// A file of proto2 becomes part of one file of the package in proto3, which can't say what is required.
			plain := func(text string) string {
				text = strings.ReplaceAll(text, `import "stock/v1/legacy.proto";`, "")
				text = strings.ReplaceAll(text, "Legacy legacy = 2;", "")
				return strings.ReplaceAll(text, "Place place = 3;", "Place place = 3;\n  int32 in_stock = 5;")
			}
			text := plain(sources(t)[stockPath])
			want := expectedOf(t, map[string]string{stockPath: text})
			if !strings.Contains(text, test.from) {
				t.Fatalf("the contracts have no %q", test.from)
			}
			if test.from != "" {
				text = strings.ReplaceAll(text, test.from, test.to)
			}
			files := compile(t, map[string]string{stockPath: text})
			file := protodesc.ToFileDescriptorProto(fileOf(t, files, stockPath))
			asNode(file, test.spell)
			broken := &descriptorpb.FileDescriptorProto{
				Name: new("google_protobuf.proto"), Package: new("google.protobuf"),
				MessageType: []*descriptorpb.DescriptorProto{{Name: new("Timestamp")}, {}},
			}
			other := &descriptorpb.FileDescriptorProto{
				Name: new("other_v1.proto"), Package: new("other.v1"),
				MessageType: []*descriptorpb.DescriptorProto{{Name: new("no name")}},
			}
			node := rawReflection{
				services: []string{auditService, stockService, "treaty.v1.ParticipantService"},
				files:    [][]byte{marshal(t, other), marshal(t, file), marshal(t, broken)},
			}
			report, err := Check(schemaOf(t, node.start(t), timeout), want, nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.problems, texts(report.Problems)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(notes, texts(report.Notes)); diff != "" {
				t.Errorf("notes (-want +got):\n%s", diff)
			}
		})
	}
}

// TestCheckBrokenDescriptors has servers whose answers aren't valid. Nothing can be compared then.
func TestCheckBrokenDescriptors(t *testing.T) {
	files := compile(t, sources(t))
	stock := fileOf(t, files, stockPath)
	legacy := marshal(t, protodesc.ToFileDescriptorProto(fileOf(t, files, legacyPath)))
	nameless := protodesc.ToFileDescriptorProto(stock)
	nameless.MessageType[0].Name = nil
	itself := protodesc.ToFileDescriptorProto(stock)
	itself.Dependency = append(itself.Dependency, itself.GetName())
	whole := marshal(t, protodesc.ToFileDescriptorProto(stock))
	for _, test := range []struct {
		name  string
		files [][]byte
		want  string
	}{
		{"nothing", nil, "the answer doesn't contain it"},
		{"no descriptor", [][]byte{{0xff}}, "reading a descriptor"},
		{"cut off", [][]byte{whole[:len(whole)-1]}, "reading a descriptor"},
		{"a message without a name", [][]byte{marshal(t, nameless), legacy}, "isn't a valid file"},
		{"an import is missing", [][]byte{whole}, "code = NotFound"},
		{"imports itself", [][]byte{marshal(t, itself), legacy}, "imports itself"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := rawReflection{services: []string{stockService}, files: test.files}
			_, err := Check(schemaOf(t, server.start(t), timeout), expected(t), nil)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
