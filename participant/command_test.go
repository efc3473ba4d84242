package participant_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/metadata"

	"github.com/treatyhq/treaty/participant"
)

func TestParseMetadata(t *testing.T) {
	good := func(change ...string) metadata.MD {
		md := metadata.Pairs(
			participant.SagaKey, "sagas/s", participant.CommandIDKey, "sagas/s/steps/2.1.4",
			participant.DirectionKey, "compensation", participant.AttemptKey, "3", participant.EpochKey, "7")
		for i := 0; i < len(change); i += 2 {
			md.Set(change[i], change[i+1])
		}
		return md
	}
	full := participant.Command{
		Saga: "sagas/s", CommandID: "sagas/s/steps/2.1.4", Direction: participant.Compensation, Attempt: 3, Epoch: 7,
	}
	for _, test := range []struct {
		name string
		md   metadata.MD
		want participant.Command
		err  string // part of the error
	}{
		{name: "full", md: good(), want: full},
		{
			name: "a saga with the id steps",
			md:   metadata.Pairs(participant.CommandIDKey, "sagas/steps/steps/1", participant.DirectionKey, "action"),
			want: participant.Command{Saga: "sagas/steps", CommandID: "sagas/steps/steps/1",
				Direction: participant.Action, Attempt: 1},
		},
		{name: "a person's call", md: metadata.Pairs("other", "x")},
		{
			name: "the least", md: metadata.Pairs(participant.CommandIDKey, "sagas/s/steps/1", participant.DirectionKey,
				"action"),
			want: participant.Command{Saga: "sagas/s", CommandID: "sagas/s/steps/1", Direction: participant.Action,
				Attempt: 1},
		},
		{name: "command id", md: good(participant.CommandIDKey, "17"), err: participant.CommandIDKey},
		{name: "empty command id", md: good(participant.CommandIDKey, ""), err: participant.CommandIDKey},
		{name: "no saga", md: good(participant.SagaKey, "sagas/", participant.CommandIDKey, "sagas//steps/1"),
			err: participant.CommandIDKey},
		{name: "a step below a step", md: good(participant.CommandIDKey, "sagas/s/steps/1/steps/2"),
			err: participant.CommandIDKey},
		{name: "two command ids", md: metadata.Join(good(), good()), err: "2 values"},
		{name: "long command id", md: good(participant.CommandIDKey, "sagas/s/steps/"+strings.Repeat("1", 600)),
			err: "512 bytes"},
		{name: "another saga", md: good(participant.SagaKey, "sagas/t"), err: participant.SagaKey},
		{name: "direction", md: good(participant.DirectionKey, "sideways"), err: participant.DirectionKey},
		{name: "attempt 0", md: good(participant.AttemptKey, "0"), err: participant.AttemptKey},
		{name: "attempt", md: good(participant.AttemptKey, "many"), err: participant.AttemptKey},
		{name: "epoch", md: good(participant.EpochKey, "18446744073709551615"), err: participant.EpochKey},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, ok, err := participant.ParseMetadata(test.md)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) || ok {
					t.Errorf("got %v, %t, %v; want an error with %q", got, ok, err, test.err)
				}
				return
			}
			if err != nil || ok != (test.want.CommandID != "") {
				t.Errorf("got %t, %v", ok, err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("command (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOutgoing(t *testing.T) {
	want := participant.Command{
		Saga: "sagas/s", CommandID: "sagas/s/steps/1", Direction: participant.Action, Attempt: 2, Epoch: 3,
	}
	md, _ := metadata.FromOutgoingContext(want.Outgoing(t.Context()))
	got, ok, err := participant.ParseMetadata(md)
	if err != nil || !ok || got != want {
		t.Errorf("got %v, %t, %v; want %v", got, ok, err, want)
	}
}

func FuzzParseMetadata(f *testing.F) {
	f.Add("sagas/s", "sagas/s/steps/1", "action", "1", "0")
	f.Add("", "sagas//steps/", "", "-1", "x")
	f.Fuzz(func(t *testing.T, saga, id, direction, attempt, epoch string) {
		md := metadata.Pairs(participant.SagaKey, saga, participant.CommandIDKey, id, participant.DirectionKey,
			direction,
			participant.AttemptKey, attempt, participant.EpochKey, epoch)
		c, ok, err := participant.ParseMetadata(md)
		if err != nil {
			return
		}
		if !ok || c.CommandID != id || !strings.HasPrefix(id, c.Saga+"/steps/") || c.Attempt < 1 {
			t.Errorf("%v became %+v", md, c)
		}
	})
}

func mustAddrPort(t *testing.T, text string) netip.AddrPort {
	t.Helper()
	address, err := netip.ParseAddrPort(text)
	if err != nil {
		t.Fatal(err)
	}
	return address
}
