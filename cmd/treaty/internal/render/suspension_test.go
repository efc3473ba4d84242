package render

import (
	"testing"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// A child that its parent has sent as a retriable command can't be cancelled, so nobody is told to try.
func TestRetriableChildIsNotCancelled(t *testing.T) {
	for kind, want := range map[treatyv1.CommandKind]int{
		treatyv1.CommandKind_COMMAND_KIND_UNSPECIFIED: 2, treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE: 2,
		treatyv1.CommandKind_COMMAND_KIND_RETRIABLE: 1,
	} {
		if got := withCancel(&treatyv1.Saga{ParentKind: kind}, option{"resume", "--retry", ""}); len(got) != want {
			t.Errorf("a child that is %s has the options %v, want %d", kind, got, want)
		}
	}
}
