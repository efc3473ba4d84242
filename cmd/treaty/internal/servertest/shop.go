package servertest

import (
	"context"
	_ "embed" // for shopSource
	"sync"
	"testing"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
)

const shopPath = "shop/v1/shop.proto"

//go:embed testdata/shop/v1/shop.proto
var shopSource string

// ShopFiles returns the contracts of the shop, compiled from testdata/shop/v1/shop.proto.
var ShopFiles = sync.OnceValues(func() (*protoregistry.Files, error) {
	// The contracts import the files built into the test, so their options have the types of the generated code.
	builtIn := protocompile.ResolverFunc(func(path string) (protocompile.SearchResult, error) {
		file, err := protoregistry.GlobalFiles.FindFileByPath(path)
		if err != nil {
			return protocompile.SearchResult{}, err
		}
		return protocompile.SearchResult{Desc: file}, nil
	})
	sources := protocompile.SourceAccessorFromMap(map[string]string{shopPath: shopSource})
	contracts := protocompile.SourceResolver{Accessor: sources}
	compiler := protocompile.Compiler{Resolver: protocompile.CompositeResolver{&contracts, builtIn}}
	compiled, err := compiler.Compile(context.Background(), shopPath)
	if err != nil {
		return nil, err
	}
	// Convert through bytes, as over the wire.
	raw, err := proto.Marshal(protodesc.ToFileDescriptorProto(compiled[0]))
	if err != nil {
		return nil, err
	}
	fileProto := protodesc.ToFileDescriptorProto(compiled[0])
	if err := proto.Unmarshal(raw, fileProto); err != nil {
		return nil, err
	}
	file, err := protodesc.NewFile(fileProto, protoregistry.GlobalFiles)
	if err != nil {
		return nil, err
	}
	files := new(protoregistry.Files)
	if err := files.RegisterFile(file); err != nil {
		return nil, err
	}
	return files, nil
})

// resolver looks in the shop's contracts, then in the files built into the test.
type resolver struct{ shop *protoregistry.Files }

func (r resolver) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	if file, err := r.shop.FindFileByPath(path); err == nil {
		return file, nil
	}
	return protoregistry.GlobalFiles.FindFileByPath(path)
}

func (r resolver) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	if found, err := r.shop.FindDescriptorByName(name); err == nil {
		return found, nil
	}
	return protoregistry.GlobalFiles.FindDescriptorByName(name)
}

func (r resolver) FindMessageByName(name protoreflect.FullName) (protoreflect.MessageType, error) {
	found, err := r.FindDescriptorByName(name)
	if err != nil {
		return nil, protoregistry.NotFound
	}
	return dynamicpb.NewMessageType(found.(protoreflect.MessageDescriptor)), nil
}

func (r resolver) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	return r.FindMessageByName((&anypb.Any{TypeUrl: url}).MessageName())
}

func (r resolver) FindExtensionByName(protoreflect.FullName) (protoreflect.ExtensionType, error) {
	return nil, protoregistry.NotFound
}

func (r resolver) FindExtensionByNumber(
	protoreflect.FullName, protoreflect.FieldNumber,
) (protoreflect.ExtensionType, error) {
	return nil, protoregistry.NotFound
}

// shopMessage returns a message of the shop, read from JSON. name is its full name, e.g. "shop.v1.Card".
func shopMessage(t testing.TB, name, text string) proto.Message {
	t.Helper()
	files, err := ShopFiles()
	if err != nil {
		t.Fatal(err)
	}
	found, err := files.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		t.Fatal(err)
	}
	message := dynamicpb.NewMessage(found.(protoreflect.MessageDescriptor))
	if err := (protojson.UnmarshalOptions{Resolver: resolver{files}}).Unmarshal([]byte(text), message); err != nil {
		t.Fatal(err)
	}
	return message
}

// ShopAny returns a message of the shop in an Any. The same message always has the same bytes.
func ShopAny(t testing.TB, name, text string) *anypb.Any {
	t.Helper()
	out := new(anypb.Any)
	if err := anypb.MarshalFrom(out, shopMessage(t, name, text),
		proto.MarshalOptions{Deterministic: true}); err != nil {
		t.Fatal(err)
	}
	return out
}

// ShopBytes returns a serialized message of the shop.
func ShopBytes(t testing.TB, name, text string) []byte { return ShopAny(t, name, text).GetValue() }
