package drift_test

import (
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/treatyhq/treaty/internal/drift"
	"github.com/treatyhq/treaty/internal/drift/drifttest"
)

// TestDigest checks that the digest changes with the files that it is of and their imports, and with nothing else.
func TestDigest(t *testing.T) {
	digest := func(change drifttest.Case, paths ...string) string {
		var all []protoreflect.FileDescriptor
		files := filesOf(t, change)
		for _, path := range paths {
			file, err := files.FindFileByPath(path)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, file)
		}
		return drift.Digest(all...)
	}
	want := digest(drifttest.Case{}, drifttest.Path)
	if len(want) != 64 {
		t.Errorf("the digest is %q", want)
	}
	if got := digest(drifttest.Case{}, drifttest.OldPath, drifttest.Path, drifttest.Path); got != want {
		t.Error("it depends on the order of the files, or on how often they are named")
	}
	for _, change := range []drifttest.Case{
		{Name: "the file", From: "int32 amount", To: "int64 amount"},
		{Name: "an import", From: "optional int32 weight", To: "optional int64 weight"},
	} {
		if digest(change, drifttest.Path) == want {
			t.Errorf("a change of %s doesn't change it", change.Name)
		}
	}
}
