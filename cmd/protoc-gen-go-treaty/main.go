// Command protoc-gen-go-treaty is a protoc plugin. It checks contracts and generates code for sagas.
//
// For each proto package with commands, events or sagas, it generates one small Go package. Saga code calls its
// functions: one for each command, and two for each event. For each service of sagas, the package has an interface to
// implement and a Register function. If a contract breaks a rule, the plugin reports all violations and generates
// nothing. For each rule it names the page that explains it.
//
// # Use
//
// In buf.gen.yaml, the plugin follows protoc-gen-go and protoc-gen-go-grpc and has the same options:
//
//   - local: protoc-gen-go-treaty
//     out: gen
//     opt: paths=source_relative
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/pluginpb"

	"github.com/treatyhq/treaty/cmd/protoc-gen-go-treaty/internal/gen"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		_, _ = fmt.Fprintf(os.Stderr, "%s: %v\n", filepath.Base(os.Args[0]), err)
		os.Exit(1)
	}
}

// run answers one request of a compiler. It does what protogen.Options.Run does, but leaves Treaty's options
// serialized: once they are parsed, two kinds of a command that are written as options of their own can't be told from
// one.
func run(args []string, in io.Reader, out io.Writer) error {
	if len(args) > 0 {
		return answer(args, out)
	}
	if isTerminal(in) {
		return errors.New(notByPerson)
	}
	data, err := io.ReadAll(in)
	if err != nil {
		return fmt.Errorf("reading the compiler's request: %w", err)
	}
	if len(data) == 0 {
		return errors.New("the compiler's request is empty: " + notByPerson)
	}
	request := new(pluginpb.CodeGeneratorRequest)
	if err := (proto.UnmarshalOptions{Resolver: foreignOptions{protoregistry.GlobalTypes}}).Unmarshal(data,
		request); err != nil {
		return fmt.Errorf("reading the compiler's request: %w", err)
	}
	plugin, err := protogen.Options{ParamFunc: func(name, _ string) error {
		return fmt.Errorf("unknown parameter %q: use the parameters of every Go plugin, such as paths=source_relative "+
			"or module=PREFIX", name)
	}}.New(request)
	if err != nil {
		return err
	}
	if err := gen.Run(plugin); err != nil {
		plugin.Error(withReference(err)) // the compiler prints it
	}
	if data, err = proto.Marshal(plugin.Response()); err != nil {
		return fmt.Errorf("writing the response: %w", err)
	}
	if _, err := out.Write(data); err != nil {
		return fmt.Errorf("writing the response: %w", err)
	}
	return nil
}

// foreignOptions resolves all linked extensions but Treaty's.
type foreignOptions struct{ *protoregistry.Types }

// FindExtensionByNumber returns an extension that isn't Treaty's.
func (o foreignOptions) FindExtensionByNumber(
	message protoreflect.FullName, number protoreflect.FieldNumber,
) (protoreflect.ExtensionType, error) {
	found, err := o.Types.FindExtensionByNumber(message, number)
	if err == nil && found.TypeDescriptor().ParentFile().Path() == treatyv1.File_treaty_v1_options_proto.Path() {
		return nil, protoregistry.NotFound
	}
	return found, err
}
