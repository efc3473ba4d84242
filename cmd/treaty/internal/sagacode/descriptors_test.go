package sagacode

import (
	"fmt"
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
			got, err := rawDescriptor(source(value))
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
			got, err := rawDescriptor(source(test.code))
			if got != nil || test.want == "" && err != nil ||
				test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, %v; want %q", got, err, test.want)
			}
		})
	}
}

func source(code string) []byte { return []byte("package x\n\n" + code + "\n") }

// FuzzRawDescriptor checks that any source gives a descriptor, none, or an error.
func FuzzRawDescriptor(f *testing.F) {
	for _, code := range []string{
		`const file_x_rawDesc = "" + "\n\x01x"`, "var file_x_rawDesc = string([]byte{0x0a, 1, 120})",
		"var file_x_rawDesc = (`\n`)",
	} {
		f.Add(source(code))
	}
	f.Fuzz(func(t *testing.T, source []byte) {
		if file, err := rawDescriptor(source); file != nil && err != nil {
			t.Errorf("both %v and %v", file, err)
		}
	})
}
