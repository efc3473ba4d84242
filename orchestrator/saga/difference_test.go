package saga

import (
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/structpb"
)

func TestDifference(t *testing.T) {
	file := func(change func(*descriptorpb.FileDescriptorProto)) *descriptorpb.FileDescriptorProto {
		made := &descriptorpb.FileDescriptorProto{
			Name: new("a.proto"), Dependency: []string{"b.proto", "c.proto"},
			MessageType: []*descriptorpb.DescriptorProto{
				{Name: new("A")},
				{Name: new("B"), Field: []*descriptorpb.FieldDescriptorProto{{Name: new("b")}}},
			},
			Options: &descriptorpb.FileOptions{GoPackage: new("a")},
		}
		change(made)
		return made
	}
	for _, test := range []struct {
		want   string
		change func(*descriptorpb.FileDescriptorProto)
	}{
		{"", func(*descriptorpb.FileDescriptorProto) {}},
		{"name", func(f *descriptorpb.FileDescriptorProto) { f.Name = new("z.proto") }},
		{"name", func(f *descriptorpb.FileDescriptorProto) { f.Name = nil }},
		{"syntax", func(f *descriptorpb.FileDescriptorProto) { f.Syntax = new("proto3") }},
		{"options.go_package", func(f *descriptorpb.FileDescriptorProto) { f.Options.GoPackage = new("z") }},
		{"dependency[1]", func(f *descriptorpb.FileDescriptorProto) { f.Dependency[1] = "z.proto" }},
		{"dependency", func(f *descriptorpb.FileDescriptorProto) { f.Dependency = f.Dependency[:1] }},
		{"message_type[1].field[0].name", func(f *descriptorpb.FileDescriptorProto) {
			f.MessageType[1].Field[0].Name = new("z")
		}},
		{"", func(f *descriptorpb.FileDescriptorProto) {
			f.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 1000, protowire.VarintType), 1))
		}},
	} {
		before, after := file(func(*descriptorpb.FileDescriptorProto) {}), file(test.change)
		if got := difference(before.ProtoReflect(), after.ProtoReflect()); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
	// A key of a map is a value, too.
	made := func(key string) *structpb.Struct {
		return &structpb.Struct{Fields: map[string]*structpb.Value{key: structpb.NewStringValue("x")}}
	}
	if got := difference(made("ada").ProtoReflect(), made("bob").ProtoReflect()); got != "fields" {
		t.Errorf("got %q, want the map's path alone", got)
	}
}
