package orchestrator

import (
	"maps"
	"strings"
	"testing"

	_ "github.com/treatyhq/treaty/gen/bench/v1" // a contract to configure
)

func TestLimitFlag(t *testing.T) {
	for _, test := range []struct {
		text  string
		rates bool
		want  map[string]limits // nil: an error
	}{
		{"acme.A=200", true, map[string]limits{"acme.A": {number: 200}}},
		{"acme.A=50/s", true, map[string]limits{"acme.A": {perSecond: 50}}},
		{"acme.A=200, 0.5/s", true, map[string]limits{"acme.A": {number: 200, perSecond: 0.5}}},
		{"customer=20", false, map[string]limits{"customer": {number: 20}}},
		{"customer=20/s", false, nil},
		{"customer", true, nil},
		{"=20", true, nil},
		{"acme.A=", true, nil},
		{"acme.A=many", true, nil},
		{"acme.A=-1", true, nil},
		{"acme.A=-1/s", true, nil},
		{"acme.A=NaN/s", true, nil},
		{"acme.A=1e300/s", true, nil},
	} {
		flag := limitFlag{rates: test.rates}
		err := flag.Set(test.text)
		if (err == nil) != (test.want != nil) || !maps.Equal(flag.limits, test.want) {
			t.Errorf("%q: got %v, %v; want %v", test.text, flag.limits, err, test.want)
		}
	}
}

func TestLimitOptions(t *testing.T) {
	const definition, service = "bench.v1.WorkSagas/Run", "bench.v1.WorkService"
	for _, test := range []struct {
		name   string
		option Option
		want   string // in the error; empty: none
	}{
		{"a participant", WithParticipantLimits(service, ParticipantLimits{InFlight: 5, PerSecond: 1}), ""},
		{"no such participant", WithParticipantLimits("a.B", ParticipantLimits{}), "no participant is configured"},
		{"a negative limit", WithParticipantLimits(service, ParticipantLimits{InFlight: -1}), "negative"},
		{"a definition", WithStartLimits(definition, StartLimits{Open: 5, PerSecond: 1}), ""},
		{"no such definition", WithStartLimits("a.B/C", StartLimits{}), "no linked contract has such a saga"},
		{"a negative number of sagas", WithStartLimits(definition, StartLimits{Open: -1}), "negative"},
		{"no such label", WithLabelLimit("colour", 5), "no saga of a linked contract has it"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := New(WithStore(t.TempDir()+"/treaty.db"), WithParticipant(service, "127.0.0.1:1"), test.option)
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
