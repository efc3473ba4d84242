package render

import (
	"testing"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// A person sees why a command isn't being sent: its participant is down, or has enough to do.
func TestWaitingCommands(t *testing.T) {
	for _, c := range []struct {
		attempts *treatyv1.Attempts
		want     string
	}{
		{&treatyv1.Attempts{Parked: true}, "parked: the participant is down; the command is sent when it is up again"},
		{
			&treatyv1.Attempts{Parked: true, ParkedReason: "b.v1.Request.x (b.proto): was int32, is string"},
			"parked: the participant's contract has drifted: b.v1.Request.x (b.proto): was int32, is string; " +
				"the command is sent when they agree again: treaty doctor",
		},
		{&treatyv1.Attempts{Queued: true}, "queued: the participant has as many commands as it can answer in time"},
	} {
		got := ""
		for _, l := range new(View).attempts(&treatyv1.Step{Attempts: c.attempts}) {
			for _, s := range l {
				got += s.text
			}
		}
		if got != c.want {
			t.Errorf("%v: got %q, want %q", c.attempts, got, c.want)
		}
	}
}
