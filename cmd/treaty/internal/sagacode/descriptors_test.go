package sagacode

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
)

// TestRawDescriptor reads a descriptor as each version of protoc-gen-go writes it.
func TestRawDescriptor(t *testing.T) {
	want := protodesc.ToFileDescriptorProto(cardv1.File_acme_card_v1_card_service_proto)
	raw, err := proto.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var numbers strings.Builder
	for _, one := range raw {
		fmt.Fprintf(&numbers, "0x%02x, ", one)
	}
	half := len(raw) / 2
	for name, value := range map[string]string{
		"v1.36.6": fmt.Sprintf("const file_x_rawDesc = \"\" +\n\t%q +\n\t%q", raw[:half], raw[half:]),
		"v1.36.2": "var file_x_rawDesc = string([]byte{" + numbers.String() + "})",
		"v1.30.0": "var file_x_rawDesc = []byte{" + numbers.String() + "}",
	} {
		t.Run(name, func(t *testing.T) {
			got, err := rawDescriptor(writeGo(t, value))
			if err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(want, got) {
				t.Errorf("got %v", got)
			}
		})
	}
}

// TestRawDescriptorDamaged reads files that have no descriptor, or no valid one.
func TestRawDescriptorDamaged(t *testing.T) {
	for _, test := range []struct{ name, code, want string }{
		{"none", "const other = 1", ""},
		{"only its name", "const x = `file_x_rawDesc`", ""},
		{"no Go", "const file_x_rawDesc = ", "expected"},
		{"no descriptor", `const file_x_rawDesc = "\xff"`, "it is no descriptor"},
		{"a call", "var file_x_rawDesc = read(1, 2)", "isn't written as protoc-gen-go writes it"},
		{"a number", "const file_x_rawDesc = 7", "isn't written as protoc-gen-go writes it"},
		{"a large number", "var file_x_rawDesc = []byte{256}", "isn't written as protoc-gen-go writes it"},
		{"a name", "var file_x_rawDesc = other", "isn't written as protoc-gen-go writes it"},
		{"names in a slice", "var file_x_rawDesc = []byte{a}", "isn't written as protoc-gen-go writes it"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := rawDescriptor(writeGo(t, test.code))
			if got != nil || test.want == "" && err != nil ||
				test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, %v; want %q", got, err, test.want)
			}
		})
	}
	if _, err := rawDescriptor(filepath.Join(t.TempDir(), "missing.pb.go")); err == nil {
		t.Error("a missing file has a descriptor")
	}
}

func writeGo(t *testing.T, code string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.pb.go")
	if err := os.WriteFile(path, []byte("package x\n\n"+code+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
