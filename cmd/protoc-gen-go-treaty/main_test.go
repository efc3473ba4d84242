package main

import (
	"bytes"
	"flag"
	"io/fs"
	"maps"
	"os"
	"os/exec"
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
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// beThePlugin is an environment variable that makes the test binary act as the plugin.
const beThePlugin = "PROTOC_GEN_GO_TREATY_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(beThePlugin) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

type testCase struct {
	dir       string // of the files, below testdata
	files     []string
	parameter string
}

func TestGenerated(t *testing.T) {
	for name, test := range map[string]testCase{
		"kinds": {
			files:     []string{"card.proto", "language.proto", "pin.proto", "plain.proto"},
			parameter: "paths=source_relative",
		},
		"packages": {files: []string{"acme/in/in.proto"}, parameter: "module=example.com/acme/gen"},
		"editions": {files: []string{"events.proto", "snake.proto"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join("testdata", name)
			response := respond(t, request(t, dir, test))
			if response.GetError() != "" {
				t.Fatal(response.GetError())
			}
			got := make(map[string]string)
			for _, file := range response.GetFile() {
				got[file.GetName()+".golden"] = file.GetContent()
			}
			golden(t, filepath.Join(dir, "golden"), got)
			if response.GetSupportedFeatures()&uint64(pluginpb.CodeGeneratorResponse_FEATURE_PROTO3_OPTIONAL) == 0 ||
				response.GetSupportedFeatures()&uint64(pluginpb.CodeGeneratorResponse_FEATURE_SUPPORTS_EDITIONS) == 0 {
				t.Error("proto3 optional or editions aren't supported")
			}
			if got := response.GetMaximumEdition(); got < int32(descriptorpb.Edition_EDITION_2023) {
				t.Errorf("maximum edition %d", got)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	for name, test := range map[string]testCase{
		"violations": {
			dir: "refused", files: []string{"card.proto", "pin.proto"}, parameter: "paths=source_relative",
		},
		"one_violation":     {dir: "refused", files: []string{"pin.proto"}, parameter: "paths=source_relative"},
		"unknown_parameter": {dir: "refused", files: []string{"card.proto"}, parameter: "colour=red"},
		"newer_options":     {dir: "newer", files: []string{"vault.proto"}, parameter: "paths=source_relative"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join("testdata", "refused")
			request := request(t, filepath.Join("testdata", test.dir), test)
			if name == "unknown_parameter" {
				// protogen reports a wrong parameter on stderr, not in the response.
				_, stderr, err := plugin(t, request)
				if err == nil || !strings.Contains(stderr, `unknown parameter "colour"`) {
					t.Errorf("run the plugin: %v, %s", err, stderr)
				}
				return
			}
			response := respond(t, request)
			if len(response.GetFile()) > 0 {
				t.Errorf("the plugin generated %d files", len(response.GetFile()))
			}
			golden(t, filepath.Join(dir, "golden", name), map[string]string{"error.golden": response.GetError() + "\n"})
		})
	}
}

// protoc passes on two kinds that are written as options of their own. A reader would see the last one.
func TestTwoKindsAsOptionsAreRefused(t *testing.T) {
	t.Parallel()
	test := testCase{files: []string{"pin.proto"}, parameter: "paths=source_relative"}
	request := request(t, filepath.Join("testdata", "kinds"), test)
	file := request.GetProtoFile()[len(request.GetProtoFile())-1]
	pivot := protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), nil)
	command := protowire.AppendTag(nil, 51870, protowire.BytesType)
	options := file.GetService()[0].GetMethod()[0].GetOptions().ProtoReflect()
	options.SetUnknown(append(options.GetUnknown(), protowire.AppendBytes(command, pivot)...))
	response := respond(t, request)
	if len(response.GetFile()) > 0 || !strings.Contains(response.GetError(), "(OPTION_UNREADABLE)") ||
		!strings.Contains(response.GetError(), "pivot") {
		t.Errorf("%d files, error %q; want that it has two kinds", len(response.GetFile()), response.GetError())
	}
}

func respond(t *testing.T, request *pluginpb.CodeGeneratorRequest) *pluginpb.CodeGeneratorResponse {
	t.Helper()
	stdout, stderr, err := plugin(t, request)
	if err != nil || stderr != "" {
		t.Fatalf("run the plugin: %v\n%s", err, stderr)
	}
	response := new(pluginpb.CodeGeneratorResponse)
	if err := proto.Unmarshal(stdout, response); err != nil {
		t.Fatal(err)
	}
	return response
}

// plugin runs the plugin like buf and protoc do.
func plugin(t *testing.T, request *pluginpb.CodeGeneratorRequest) (stdout []byte, stderr string, err error) {
	t.Helper()
	raw, err := proto.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), self)
	command.Env = append(os.Environ(), beThePlugin+"=1")
	command.Stdin = bytes.NewReader(raw)
	var out, errOut bytes.Buffer
	command.Stdout, command.Stderr = &out, &errOut
	err = command.Run()
	return out.Bytes(), errOut.String(), err
}

// request compiles files to the request that a compiler sends to a plugin: the files and their imports, imports first.
func request(t *testing.T, dir string, test testCase) *pluginpb.CodeGeneratorRequest {
	t.Helper()
	compiler := protocompile.Compiler{
		Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{
			ImportPaths: []string{dir, filepath.Join("..", "..", "proto")},
		}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	compiled, err := compiler.Compile(t.Context(), test.files...)
	if err != nil {
		t.Fatal(err)
	}
	request := &pluginpb.CodeGeneratorRequest{FileToGenerate: test.files, Parameter: new(test.parameter)}
	seen := make(map[string]bool)
	var add func(file protoreflect.FileDescriptor)
	add = func(file protoreflect.FileDescriptor) {
		if seen[file.Path()] {
			return
		}
		seen[file.Path()] = true
		for i := range file.Imports().Len() {
			add(file.Imports().Get(i).FileDescriptor)
		}
		request.ProtoFile = append(request.ProtoFile, protodesc.ToFileDescriptorProto(file))
	}
	for _, file := range compiled {
		add(file)
	}
	return request
}

// golden compares the generated files with the files in a directory.
func golden(t *testing.T, dir string, got map[string]string) {
	t.Helper()
	if *update {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		for name, content := range got {
			path := filepath.Join(dir, filepath.FromSlash(name))
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	want := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		want[filepath.ToSlash(name)] = string(content)
		return err
	})
	if err != nil {
		t.Fatalf("read the golden files (write them with -update): %v", err)
	}
	if len(want) == 0 || !slices.Equal(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))) {
		t.Errorf("files %v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s differs (-want +got); if that is right, rewrite it with -update:\n%s", dir, diff)
	}
}
