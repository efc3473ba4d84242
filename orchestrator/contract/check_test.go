package contract_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
)

var update = flag.Bool("update", false, "rewrite the golden files and the rules of docs/contract-reference.md")

// compile compiles a file in dir. It imports the real options, unless dir has a folder NAME.imports with others.
func compile(t testing.TB, dir, name string) (protoreflect.FileDescriptor, error) {
	t.Helper()
	compiler := protocompile.Compiler{
		Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{
			ImportPaths: []string{dir, filepath.Join(dir, name+".imports"), filepath.Join("..", "..", "proto")},
		}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	files, err := compiler.Compile(t.Context(), name+".proto")
	if err != nil {
		return nil, err
	}
	return files[0], nil
}

func mustCompile(t testing.TB, dir, name string) protoreflect.FileDescriptor {
	t.Helper()
	file, err := compile(t, dir, name)
	if err != nil {
		t.Fatalf("compile %s: %v", name, err)
	}
	return file
}

// examples returns the names of the .proto files in a folder, without the extension.
func examples(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.proto"))
	if err != nil {
		t.Fatal(err)
	}
	for i, path := range paths {
		paths[i] = strings.TrimSuffix(filepath.Base(path), ".proto")
	}
	return paths
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("read the golden file (write it with -update): %v", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got); rewrite it with -update if it should:\n%s", path, diff)
	}
}

// ruleOf returns the id of the rule that an example breaks, e.g. COMMAND_KIND_MISSING for "command_kind_missing.saga".
func ruleOf(example string) string {
	id, _, _ := strings.Cut(example, ".")
	return strings.ToUpper(id)
}

func printed(violations []contract.Violation) string {
	var out strings.Builder
	for _, v := range violations {
		out.WriteString(v.Error() + "\n")
	}
	return out.String()
}

const rulesDir = "testdata/rules"

func TestEveryExampleBreaksItsRule(t *testing.T) {
	for _, name := range examples(t, rulesDir) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			violations := contract.Check(mustCompile(t, rulesDir, name))
			if !slices.ContainsFunc(violations, func(v contract.Violation) bool { return v.Rule == ruleOf(name) }) {
				t.Errorf("%s doesn't break %s, but %v", name, ruleOf(name), violations)
			}
			for _, v := range violations {
				if v.Position.Line == 0 || v.Position.Column == 0 || v.Descriptor == nil {
					t.Errorf("%v has no position or no descriptor", v)
				}
			}
			golden(t, filepath.Join(rulesDir, name+".golden"), printed(violations))
		})
	}
}

func TestEveryRuleHasAnExample(t *testing.T) {
	names := examples(t, rulesDir)
	known := make(map[string]bool)
	for _, rule := range contract.Rules() {
		known[rule.ID] = true
		if rule.Summary == "" || rule.Doc == "" {
			t.Errorf("%s has no summary or doc", rule.ID)
		}
		if !slices.Contains(names, strings.ToLower(rule.ID)) {
			t.Errorf("%s has no example: write %s/%s.proto", rule.ID, rulesDir, strings.ToLower(rule.ID))
		}
	}
	for _, name := range names {
		if !known[ruleOf(name)] {
			t.Errorf("%s.proto is an example of a rule that doesn't exist", name)
		}
	}
}

// The kind is a oneof, so the protobuf compiler itself rejects two kinds.
func TestTwoKindsDoNotCompile(t *testing.T) {
	_, err := compile(t, "testdata/compiler", "two_kinds")
	if err == nil {
		t.Fatal("two kinds compile")
	}
	golden(t, "testdata/compiler/two_kinds.golden", filepath.ToSlash(err.Error())+"\n")
}

// protoc accepts two kinds that are written as options of their own. The last one counts for a reader.
func TestTwoKindsAsOptionsAreRefused(t *testing.T) {
	const retriable, query = 3, 4
	for name, test := range map[string]struct {
		parts [][]byte
		want  string
	}{
		"in two options": {[][]byte{kind(retriable), kind(query)}, "sets both retriable and query"},
		"in one":         {[][]byte{append(kind(retriable), kind(query)...)}, "sets both retriable and query"},
		"the same twice": {[][]byte{kind(query), kind(query)}, ""},
		"one kind and a timeout": {
			[][]byte{
				kind(query),
				protowire.AppendBytes(protowire.AppendTag(nil, 5, protowire.BytesType), []byte{8, 1}),
			}, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			file := protodesc.ToFileDescriptorProto(mustCompile(t, "testdata/valid", "other"))
			file.Service[0].Method[0].Options = withCommand(test.parts...)
			linked, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
			if err != nil {
				t.Fatal(err)
			}
			got := printed(contract.Check(linked))
			if test.want == "" && got != "" || test.want != "" &&
				(!strings.Contains(got, test.want) || !strings.Contains(got, "OPTION_UNREADABLE")) {
				t.Errorf("got %q, want %q", got, test.want)
			}
			_, err = contract.CommandOf(linked.Services().Get(0).Methods().Get(0))
			if test.want != "" != (err != nil) {
				t.Errorf("CommandOf: %v", err)
			}
		})
	}
}

// What a program links has been read already, so the kinds are looked for in what the compiler wrote.
func TestLinkedFilesAreReadAsCompiled(t *testing.T) {
	file := contract.Compiled(customerv1.File_acme_customer_v1_customer_service_proto)
	if file == nil {
		t.Fatal("the linked file isn't found")
	}
	options := file.Services().Get(0).Methods().ByName("ChangeAddress").Options().ProtoReflect()
	if number, _, _ := protowire.ConsumeTag(options.GetUnknown()); number !=
		treatyv1.E_Command.TypeDescriptor().Number() {
		t.Errorf("the options are %v, want (treaty.v1.command) as it is serialized", options)
	}
	other := mustCompile(t, "testdata/valid", "other")
	if contract.Compiled(other) != nil {
		t.Error("a file that isn't linked is found")
	}
	written := protodesc.ToFileDescriptorProto(other)
	written.Service[0].Method[0].Options = withCommand(kind(3), kind(2)) // of which a program sees the last one
	files := new(protoregistry.Files)
	if err := files.RegisterFile(other); err != nil {
		t.Fatal(err)
	}
	_, err := contract.LoadCompiled(files, func(protoreflect.FileDescriptor) protoreflect.FileDescriptor {
		read, err := protodesc.NewFile(written, protoregistry.GlobalFiles)
		if err != nil {
			t.Fatal(err)
		}
		return read
	})
	if err == nil || !strings.Contains(err.Error(), "DoOther sets both retriable and pivot") {
		t.Errorf("loading a linked file with two kinds: %v", err)
	}
}

// kind returns a serialized (treaty.v1.command) that only has the kind with a number.
func kind(number protowire.Number) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), nil)
}

// withCommand returns options with (treaty.v1.command) in several parts, as a compiler that doesn't know the option
// passes them on.
func withCommand(parts ...[]byte) *descriptorpb.MethodOptions {
	var raw []byte
	number := treatyv1.E_Command.TypeDescriptor().Number()
	for _, part := range parts {
		raw = protowire.AppendTag(raw, number, protowire.BytesType)
		raw = protowire.AppendBytes(raw, part)
	}
	options := new(descriptorpb.MethodOptions)
	options.ProtoReflect().SetUnknown(raw)
	return options
}

func TestValidContractHasNoViolations(t *testing.T) {
	for _, name := range []string{"card", "language", "beside"} {
		if violations := contract.Check(mustCompile(t, "testdata/valid", name)); violations != nil {
			t.Errorf("violations of %s: %v", name, violations)
		}
	}
}

// Options are read the same from dynamic messages (protocompile), unknown fields (a serialized file descriptor set) and
// generated types (the plugin).
func TestOptionsAreReadInEveryForm(t *testing.T) {
	for _, name := range examples(t, rulesDir) {
		if name == "option_unreadable" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			compiled := mustCompile(t, rulesDir, name)
			want := printed(contract.Check(compiled))
			for form, resolver := range map[string]interface {
				protoregistry.MessageTypeResolver
				protoregistry.ExtensionTypeResolver
			}{"unknown": new(protoregistry.Types), "generated": protoregistry.GlobalTypes} {
				raw, err := proto.Marshal(protodesc.ToFileDescriptorProto(compiled))
				if err != nil {
					t.Fatal(err)
				}
				file := new(descriptorpb.FileDescriptorProto)
				if err := (proto.UnmarshalOptions{Resolver: resolver}).Unmarshal(raw, file); err != nil {
					t.Fatal(err)
				}
				linked, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, printed(contract.Check(linked))); diff != "" {
					t.Errorf("%s options are read differently:\n%s", form, diff)
				}
			}
		})
	}
}

// Files that don't import our options may use the same extension numbers.
func TestForeignOptionsAreNotRead(t *testing.T) {
	file := mustCompile(t, "testdata/valid", "foreign")
	if violations := contract.Check(file); violations != nil {
		t.Errorf("violations: %v", violations)
	}
	command, err := contract.CommandOf(file.Services().Get(0).Methods().Get(0))
	if command != nil || err != nil {
		t.Errorf("CommandOf = %v, %v; want nil, nil", command, err)
	}
}

func TestMethodsAreReadAloneWithTheirViolations(t *testing.T) {
	file := mustCompile(t, rulesDir, "compensation_field_foreign")
	_, err := contract.CommandOf(file.Services().Get(0).Methods().ByName("OrderCard"))
	violation, ok := errors.AsType[contract.Violation](err)
	if !ok || violation.Rule != "COMPENSATION_FIELD_FOREIGN" {
		t.Errorf("CommandOf = %v, want a violation of COMPENSATION_FIELD_FOREIGN", err)
	}
	if got := len(strings.Split(err.Error(), "\n")); got != 2 {
		t.Errorf("CommandOf names %d violations, want 2:\n%v", got, err)
	}
	_, err = contract.SagaDefinitionOf(mustCompile(t, rulesDir, "label_type").Services().Get(0).Methods().Get(0))
	if violation, ok := errors.AsType[contract.Violation](err); !ok || violation.Rule != "LABEL_TYPE" {
		t.Errorf("SagaDefinitionOf = %v, want a violation of LABEL_TYPE", err)
	}
}
