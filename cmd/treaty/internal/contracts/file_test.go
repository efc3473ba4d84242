package contracts

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestEncode compares a file with a golden file, and reads it again.
func TestEncode(t *testing.T) {
	file := expected(t)
	text, err := file.Encode()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "stock.contracts.yaml")
	if *update {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (-update writes it)", err)
	}
	if diff := cmp.Diff(string(want), string(text)); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", path, diff)
	}
	got, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(file, got); diff != "" {
		t.Errorf("reading what was written (-want +got):\n%s", diff)
	}
}

// TestParseDamaged damages a file, in one place each.
func TestParseDamaged(t *testing.T) {
	whole, err := expected(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name     string
		from, to string
		want     string
	}{
		{"newer", "version: 1", "version: 2\nbonds: [1]",
			"it has version 2 of the format, and this program reads up to version 1: use a newer treaty"},
		{"no version", "version: 1\n", "", "it isn't a file of expectations"},
		{"no end", "\n...\n", "\n", "was cut off"},
		{"unknown key", "kind: pivot", "kind: pivot\n      color: red", "field color not found"},
		{"unknown kind", "kind: pivot", "kind: pivotal", `Ship has the unknown kind "pivotal"`},
		{"no kind", "      kind: pivot\n", "", `Ship has the unknown kind ""`},
		{"no compensation", "      compensated_by: Release\n", "", `is compensatable and has compensated_by: ""`},
		{"compensation of a pivot", "kind: pivot", "kind: pivot\n      compensated_by: Release",
			`is pivot and has compensated_by: "Release"`},
		{"missing compensation", "compensated_by: Release", "compensated_by: Free", "Free, which is missing"},
		{"missing request", "request: stock.v1.ShipRequest", "request: stock.v1.Sent", `"stock.v1.Sent" is missing`},
		{"missing rejection", "- stock.v1.SoldOut", "- stock.v1.Sold", `"stock.v1.Sold" is missing`},
		{"missing message", "  stock.v1.Company:", "  stock.v1.Firm:", `"stock.v1.Company" is missing`},
		{"missing enum", "  stock.v1.State:", "  stock.v1.Standing:", `"stock.v1.State" is missing`},
		{"bad field", "1: string item", "1: string", `"string" isn't a field`},
		{"bad label", "1: string item", "1: several string item", `"several string item" isn't a field`},
		{"field is a list", "1: string item", "1: [string item]", "damaged"},
		{"number is a text", "1: string item", "one: string item", "damaged"},
		{"method without content", "    Ship:\n", "    Load:\n    Ship:\n", "StockService/Load has no content"},
		{"two documents", "\n...\n", "\n---\nversion: 1\n...\n", "more than one YAML document"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if !strings.Contains(string(whole), test.from) {
				t.Fatalf("the file has no %q:\n%s", test.from, whole)
			}
			_, err := Parse([]byte(strings.Replace(string(whole), test.from, test.to, 1)))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	for _, text := range []string{
		"", "...", "version: 1\n...\n", "version: 1\nservices: {}\n...\n", "[1]", "\x00", "a: [",
		"<html>502 Bad Gateway</html>",
	} {
		if _, err := Parse([]byte(text)); err == nil {
			t.Errorf("%q is a file", text)
		}
	}
}

// TestParseCutOff cuts a file off after each of its bytes but the last newline.
func TestParseCutOff(t *testing.T) {
	whole, err := expected(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(whole) - 1 {
		if _, err := Parse(whole[:i]); err == nil {
			t.Fatalf("a file that ends with %q is whole", whole[max(0, i-30):i])
		}
	}
	crlf := strings.ReplaceAll(string(whole), "\n", "\r\n")
	if _, err := Parse([]byte(crlf)); err != nil {
		t.Errorf("with the line ends of Windows: %v", err)
	}
}

// FuzzParse checks that any input gives a file or an error, and that a file that was read can be written and read.
func FuzzParse(f *testing.F) {
	whole, err := os.ReadFile(filepath.Join("testdata", "stock.contracts.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte("version: 1\nservices: {a.B: {C: {request: google.protobuf.Empty, reply: google.protobuf.Empty, " +
		"kind: pivot, sagas: []}}}\n...\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse(data)
		if (file == nil) == (err == nil) {
			t.Fatalf("file %v, error %v", file, err)
		}
		if err != nil {
			return
		}
		text, err := file.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(text)
		if err != nil {
			t.Fatalf("%v, after writing it as\n%s", err, text)
		}
		second, err := again.Encode()
		if err != nil || !slices.Equal(text, second) {
			t.Errorf("written as\n%s\nand then, with error %v, as\n%s", text, err, second)
		}
	})
}
