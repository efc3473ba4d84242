package sagacode

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// described are the contracts that code was compiled with.
type described struct {
	methods  map[string]protoreflect.MethodDescriptor   // by "package.Service/Method"
	messages map[protogen.GoIdent]protoreflect.FullName // by their Go types
}

// describe reads the contracts from the code that protoc-gen-go has generated for packages.
func describe(packages []*listed) (*described, error) {
	files := make(map[string]*descriptorpb.FileDescriptorProto)
	request := new(pluginpb.CodeGeneratorRequest)
	var parameters []string
	for _, p := range packages {
		if p.Standard {
			continue
		}
		for _, name := range p.GoFiles {
			if !strings.HasSuffix(name, ".pb.go") {
				continue
			}
			source, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				return nil, fmt.Errorf("reading the contracts of package %s: %w", p.ImportPath, err)
			}
			file, err := rawDescriptor(source)
			if err != nil {
				return nil, fmt.Errorf("reading the contract in %s of package %s: %w", name, p.ImportPath, err)
			}
			if file == nil || files[file.GetName()] != nil {
				continue
			}
			files[file.GetName()] = file
			parameters = append(parameters, "M"+file.GetName()+"="+p.ImportPath+";"+p.Name)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		addFile(request, files, path)
	}
	parameter := strings.Join(parameters, ",")
	request.Parameter = &parameter
	plugin, err := protogen.Options{}.New(request)
	if err != nil {
		return nil, fmt.Errorf("reading the contracts in the generated code: generate it again: %w", err)
	}
	out := &described{
		methods:  make(map[string]protoreflect.MethodDescriptor),
		messages: make(map[protogen.GoIdent]protoreflect.FullName),
	}
	for _, file := range plugin.Files {
		for _, service := range file.Services {
			for _, method := range service.Methods {
				out.methods[string(service.Desc.FullName())+"/"+string(method.Desc.Name())] = method.Desc
			}
		}
		out.addMessages(file.Messages)
	}
	return out, nil
}

func (d *described) addMessages(messages []*protogen.Message) {
	for _, message := range messages {
		d.messages[message.GoIdent] = message.Desc.FullName()
		d.addMessages(message.Messages)
	}
}

// addFile adds a file after those that it imports.
func addFile(to *pluginpb.CodeGeneratorRequest, files map[string]*descriptorpb.FileDescriptorProto, path string) {
	file := files[path]
	if file == nil || slices.Contains(to.GetFileToGenerate(), path) {
		return
	}
	to.FileToGenerate = append(to.FileToGenerate, path)
	for _, imported := range file.GetDependency() {
		addFile(to, files, imported)
	}
	to.ProtoFile = append(to.ProtoFile, file)
}

// rawDescriptor returns the descriptor in a file that protoc-gen-go has generated, or nil if it has none. It is the
// value of file_..._rawDesc: a constant in newer versions, a variable in older ones.
func rawDescriptor(source []byte) (*descriptorpb.FileDescriptorProto, error) {
	if !bytes.Contains(source, []byte("_rawDesc")) {
		return nil, nil
	}
	syntax, err := parser.ParseFile(token.NewFileSet(), "", source, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	for _, declared := range syntax.Decls {
		general, ok := declared.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range general.Specs {
			values, ok := spec.(*ast.ValueSpec)
			if !ok || len(values.Names) != 1 || len(values.Values) != 1 ||
				!strings.HasSuffix(values.Names[0].Name, "_rawDesc") {
				continue
			}
			var raw bytes.Buffer
			if err := literal(&raw, values.Values[0]); err != nil {
				return nil, err
			}
			file := new(descriptorpb.FileDescriptorProto)
			if err := proto.Unmarshal(raw.Bytes(), file); err != nil {
				return nil, fmt.Errorf("it is no descriptor: %w", err)
			}
			return file, nil
		}
	}
	return nil, nil
}

var errLiteral = errors.New("the descriptor isn't written as protoc-gen-go writes it: use a newer treaty")

// literal writes the value of an expression: strings joined by +, or a slice of bytes, which may be converted to a
// string.
func literal(out *bytes.Buffer, value ast.Expr) error {
	switch value := value.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(value.Value)
		if err != nil || value.Kind != token.STRING {
			return errLiteral
		}
		out.WriteString(text)
		return nil
	case *ast.BinaryExpr:
		return errors.Join(literal(out, value.X), literal(out, value.Y))
	case *ast.ParenExpr:
		return literal(out, value.X)
	case *ast.CallExpr:
		if len(value.Args) != 1 {
			return errLiteral
		}
		return literal(out, value.Args[0])
	case *ast.CompositeLit:
		for _, element := range value.Elts {
			one, ok := element.(*ast.BasicLit)
			if !ok {
				return errLiteral
			}
			number, err := strconv.ParseUint(one.Value, 0, 8)
			if err != nil {
				return errLiteral
			}
			out.WriteByte(byte(number))
		}
		return nil
	default:
		return errLiteral
	}
}

// message returns the full name of the message that a Go type was generated from.
func (d *described) message(name *types.TypeName) (protoreflect.FullName, bool) {
	if name.Pkg() == nil {
		return "", false
	}
	found, ok := d.messages[protogen.GoIdent{
		GoName: name.Name(), GoImportPath: protogen.GoImportPath(name.Pkg().Path()),
	}]
	return found, ok
}
