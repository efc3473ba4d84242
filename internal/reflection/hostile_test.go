package reflection

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/treatyhq/treaty/internal/drift"
	"github.com/treatyhq/treaty/internal/drift/drifttest"
)

// answers is a connection whose server answers every question with the same files.
type answers [][]byte

func (answers) Invoke(context.Context, string, any, any, ...grpc.CallOption) error {
	return status.Error(codes.Unimplemented, "not served")
}

func (a answers) NewStream(
	ctx context.Context, _ *grpc.StreamDesc, _ string, _ ...grpc.CallOption,
) (grpc.ClientStream, error) {
	return &answering{ctx: ctx, files: a}, nil
}

type answering struct {
	grpc.ClientStream

	ctx   context.Context
	files [][]byte
}

func (s *answering) SendMsg(any) error { return nil }

func (s *answering) RecvMsg(message any) error {
	answer, ok := message.(*reflectionv1.ServerReflectionResponse)
	if !ok {
		return io.ErrUnexpectedEOF
	}
	answer.MessageResponse = &reflectionv1.ServerReflectionResponse_FileDescriptorResponse{
		FileDescriptorResponse: &reflectionv1.FileDescriptorResponse{FileDescriptorProto: s.files},
	}
	return s.ctx.Err()
}

// ask asks for a service of a server that answers with files.
func ask(t testing.TB, files [][]byte) (*Client, error) {
	t.Helper()
	client := New(t.Context(), answers(files), time.Minute)
	_, err := client.Service(drifttest.Service)
	client.Close()
	return client, err
}

func encoded(t testing.TB, files ...*descriptorpb.FileDescriptorProto) [][]byte {
	t.Helper()
	var all [][]byte
	for _, file := range files {
		raw, err := proto.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, raw)
	}
	return all
}

// file returns a file with the service, with some imports.
func file(path string, imports ...string) *descriptorpb.FileDescriptorProto {
	return &descriptorpb.FileDescriptorProto{
		Name: new(path), Package: new("drift.v1"), Syntax: new("proto3"), Dependency: imports,
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: new("StockService")}},
	}
}

// TestHostile has answers that can't be used. Each ends with an error that says why, and soon.
func TestHostile(t *testing.T) {
	many := func(n int) *descriptorpb.FileDescriptorProto {
		f := file("many.proto")
		for i := range n {
			f.MessageType = append(f.MessageType, &descriptorpb.DescriptorProto{Name: new(fmt.Sprintf("M%d", i))})
		}
		return f
	}
	wide := file("wide.proto")
	wide.EnumType = []*descriptorpb.EnumDescriptorProto{{Name: new("E")}}
	for i := range maxMembers + 1 {
		wide.EnumType[0].Value = append(wide.EnumType[0].Value,
			&descriptorpb.EnumValueDescriptorProto{Name: new(fmt.Sprintf("V%d", i)), Number: new(int32(i))})
	}
	deep := file("deep.proto")
	inner := &descriptorpb.DescriptorProto{Name: new("M")}
	for range 2000 {
		inner = &descriptorpb.DescriptorProto{Name: new("M"), NestedType: []*descriptorpb.DescriptorProto{inner}}
	}
	deep.MessageType = append(deep.MessageType, inner)
	var files []*descriptorpb.FileDescriptorProto
	for i := range maxFiles + 1 {
		files = append(files, file(fmt.Sprintf("f%d.proto", i), fmt.Sprintf("f%d.proto", i+1)))
	}
	huge := file("huge.proto")
	huge.MessageType = []*descriptorpb.DescriptorProto{{Name: new(strings.Repeat("m", maxBytes))}}
	unresolved := file("a.proto")
	unresolved.Service[0].Method = []*descriptorpb.MethodDescriptorProto{
		{Name: new("Reserve"), InputType: new(".drift.v1.None"), OutputType: new(".drift.v1.None")},
	}
	for _, test := range []struct {
		name  string
		files [][]byte
		code  codes.Code
		want  string
	}{
		{"nothing", nil, codes.NotFound, "the answer doesn't contain it"},
		{"no descriptor", [][]byte{[]byte("\xff\xff")}, codes.Internal, "reading a descriptor"},
		{"imports itself", encoded(t, file("a.proto", "a.proto")), codes.Internal, "a.proto imports itself"},
		{"imports in a circle", encoded(t, file("a.proto", "b.proto"), file("b.proto", "a.proto")), codes.Internal,
			"imports itself"},
		{"a missing import", encoded(t, file("a.proto", "none.proto")), codes.NotFound, "none.proto"},
		{"an unknown type", encoded(t, unresolved), codes.Internal, "a.proto isn't a valid file"},
		{"50,000 messages", encoded(t, many(50_000)), codes.ResourceExhausted, "more than 20000 messages and enums"},
		{"many values", encoded(t, wide), codes.ResourceExhausted, "more than 200000 fields and values"},
		{"many files", encoded(t, files...), codes.ResourceExhausted, "more than 2000 files"},
		{"huge", encoded(t, huge), codes.ResourceExhausted, "more than 16777216 bytes of descriptors"},
		{"nested deep", encoded(t, deep), codes.Internal, "reading a descriptor"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := ask(t, test.files)
			if status.Code(err) != test.code || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %v with %q", err, test.code, test.want)
			}
		})
	}
}

// FuzzDescriptors answers with any files, and compares what comes of them with a contract. Nothing may panic or hang.
func FuzzDescriptors(f *testing.F) {
	contract, err := drifttest.Files(drifttest.Case{})
	if err != nil {
		f.Fatal(err)
	}
	ours, err := drifttest.Methods(contract)
	if err != nil {
		f.Fatal(err)
	}
	add := func(change drifttest.Case) {
		files, err := drifttest.Files(change)
		if err != nil {
			f.Fatal(err)
		}
		var set descriptorpb.FileDescriptorSet
		for _, path := range []string{drifttest.Path, drifttest.OldPath} {
			found, err := files.FindFileByPath(path)
			if err != nil {
				f.Fatal(err)
			}
			set.File = append(set.File, protodesc.ToFileDescriptorProto(found))
		}
		raw, err := proto.Marshal(&set)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	add(drifttest.Case{})
	add(drifttest.Breaking()[0])
	add(drifttest.Case{Name: "recursive", From: "Part inner", To: "ReserveRequest inner"})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var set descriptorpb.FileDescriptorSet
		if err := proto.Unmarshal(raw, &set); err != nil {
			return
		}
		client, err := ask(t, encoded(t, set.GetFile()...))
		_, unknown := client.Files().FindDescriptorByName(drifttest.Service)
		for name, method := range ours {
			if found := drift.Compare(method, client.Files()); unknown != nil && len(found) == 0 {
				t.Errorf("%s isn't there, and there is no difference: %v", name, err)
			}
		}
	})
}
