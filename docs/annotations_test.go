package docs_test

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// releaseImage holds the contracts of the last release.
const releaseImage = "../tools/buf/release.binpb"

// TestAnnotationNumbers compares the numbers of the annotations with those on the page and with those of the last
// release. A number that changes breaks every compiled contract, and buf doesn't report it.
func TestAnnotationNumbers(t *testing.T) {
	numbers := numbersOf(treatyv1.File_treaty_v1_options_proto)

	page, err := os.ReadFile("annotations.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := make(map[string]string)
	row := regexp.MustCompile("(?m)^\\| `([^`]+)` \\| `([^`]+)` \\| ([0-9]+) \\|$")
	for _, match := range row.FindAllStringSubmatch(string(page), -1) {
		listed[match[1]] = match[2] + " " + match[3]
	}
	if diff := cmp.Diff(listed, numbers); diff != "" {
		t.Errorf("annotations.md differs from options.proto (-page +options):\n%s", diff)
	}

	released := numbersOf(releasedOptions(t))
	maps.DeleteFunc(numbers, func(name, _ string) bool { return released[name] == "" })
	if diff := cmp.Diff(released, numbers); diff != "" {
		t.Errorf("options.proto breaks the last release (-release +options):\n%s", diff)
	}
}

// numbersOf returns, by the name of each annotation, the options message that it extends and its number.
func numbersOf(file protoreflect.FileDescriptor) map[string]string {
	numbers := make(map[string]string)
	for i := range file.Extensions().Len() {
		x := file.Extensions().Get(i)
		numbers[string(x.FullName())] = fmt.Sprintf("%s %d", x.ContainingMessage().FullName(), x.Number())
	}
	return numbers
}

// releasedOptions returns the options.proto of the last release.
func releasedOptions(t *testing.T) protoreflect.FileDescriptor {
	t.Helper()
	content, err := os.ReadFile(releaseImage)
	if err != nil {
		t.Fatal(err)
	}
	var image descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(content, &image); err != nil {
		t.Fatalf("read %s: %v", releaseImage, err)
	}
	files, err := protodesc.NewFiles(&image)
	if err != nil {
		t.Fatalf("read %s: %v", releaseImage, err)
	}
	file, err := files.FindFileByPath("treaty/v1/options.proto")
	if err != nil {
		t.Fatalf("find the annotations in %s: %v", releaseImage, err)
	}
	return file
}
