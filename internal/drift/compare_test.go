package drift_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/treatyhq/treaty/internal/drift"
	"github.com/treatyhq/treaty/internal/drift/drifttest"
)

func filesOf(t testing.TB, change drifttest.Case) *protoregistry.Files {
	t.Helper()
	files, err := drifttest.Files(change)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func methodsOf(t testing.TB, files *protoregistry.Files) map[string]protoreflect.MethodDescriptor {
	t.Helper()
	methods, err := drifttest.Methods(files)
	if err != nil {
		t.Fatal(err)
	}
	return methods
}

// TestCompare changes the participant's contract in one place each.
func TestCompare(t *testing.T) {
	ours := methodsOf(t, filesOf(t, drifttest.Case{}))
	for _, change := range slices.Concat(drifttest.Breaking(), drifttest.Harmless()) {
		t.Run(change.Name, func(t *testing.T) {
			theirs := filesOf(t, change)
			var broken, places []string
			for _, name := range slices.Sorted(maps.Keys(ours)) {
				for _, d := range drift.Compare(ours[name], theirs) {
					if d.Breaking && !slices.Contains(broken, name) {
						broken = append(broken, name)
					}
					if d.Breaking == (len(change.Breaks) > 0) {
						place, _, _ := strings.Cut(d.String(), " (")
						places = append(places, place)
					}
					if d.Method != name || d.File == "" || d.Text == "" {
						t.Errorf("an incomplete difference: %#v", d)
					}
				}
			}
			if want := slices.Sorted(slices.Values(change.Breaks)); !cmp.Equal(want, broken) {
				t.Errorf("broken methods (-want +got):\n%s", cmp.Diff(want, broken))
			}
			if change.Where != "" && !slices.Contains(places, change.Where) {
				t.Errorf("no difference is about %s, but there are %q", change.Where, places)
			}
			if change.Where == "" && len(change.Breaks) == 0 && len(places) > 0 {
				t.Errorf("differences: %q", places)
			}
		})
	}
}

// TestCompareWithoutAnnotations takes the annotations away, as some reflection servers do.
func TestCompareWithoutAnnotations(t *testing.T) {
	ours := methodsOf(t, filesOf(t, drifttest.Case{}))
	theirs := filesOf(t, drifttest.Case{
		Name: "none", From: "option (treaty.v1.command)", To: "option deprecated = true; //",
	})
	for name, method := range ours {
		if found := drift.Compare(method, theirs); len(found) > 0 {
			t.Errorf("%s: %v", name, found)
		}
	}
}

// TestDifference checks what people read.
func TestDifference(t *testing.T) {
	ours := methodsOf(t, filesOf(t, drifttest.Case{}))
	theirs := filesOf(t, drifttest.Case{Name: "type", From: "int32 amount", To: "sint32 amount"})
	found := drift.Compare(ours[drifttest.Reserve], theirs)
	want := []string{"drift.v1.ReserveRequest.amount (drift/v1/stock_service.proto): was int32, is sint32"}
	var got []string
	for _, d := range found {
		got = append(got, d.String())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("differences (-want +got):\n%s", diff)
	}
}

// TestManyDifferences has so many harmless differences that a breaking one is found after the limit.
func TestManyDifferences(t *testing.T) {
	ours := methodsOf(t, filesOf(t, drifttest.Case{}))
	more := "message ShipRequest {"
	for i := range 60 {
		more += fmt.Sprintf(" string f%d = %d;", i, 100+i)
	}
	theirs := filesOf(t, drifttest.Case{
		Name: "many", From: "message ShipRequest {", To: more,
	})
	if found := drift.Compare(ours[drifttest.Ship], theirs); len(found) != 50 {
		t.Errorf("%d differences, want the limit of 50", len(found))
	}
	theirs = filesOf(t, drifttest.Case{
		Name: "one breaks",
		From: "message ShipRequest {\n  string address = 1;\n  Old old = 2;\n}\nmessage Shipped { int64",
		To:   more + " string address = 1; Old old = 2; }\nmessage Shipped { sint64",
	})
	found := drift.Compare(ours[drifttest.Ship], theirs)
	if len(found) != 50 || !slices.ContainsFunc(found, func(d drift.Difference) bool { return d.Breaking }) {
		t.Errorf("the breaking difference isn't among %d", len(found))
	}
}
