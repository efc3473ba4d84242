package saga

import (
	"testing"

	"google.golang.org/grpc/codes"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Saga code may put the text of an error into a command's request. A replay then compares the request with the journal,
// so a saga that was started by an older build would be suspended if a text changed. Don't change the texts below.
func TestErrorTextsDoNotChange(t *testing.T) {
	failure := &treatyv1.Failure{Code: int32(codes.NotFound), Message: "no such customer"}
	texts := []struct {
		err  error
		want string
	}{
		{ErrDeadline, "rpc error: code = DeadlineExceeded desc = the scope's deadline passed"},
		{ErrTimeout, "rpc error: code = DeadlineExceeded desc = the event didn't come in time"},
		{&Error{Method: "a.B/C", failure: failure}, "a.B/C refused: NotFound: no such customer"},
		{&Error{Method: "a.B/C", failure: failure, Unknown: true}, "a.B/C unknown: NotFound: no such customer"},
	}
	for _, text := range texts {
		if got := text.err.Error(); got != text.want {
			t.Errorf("got %q, want %q", got, text.want)
		}
	}
}
