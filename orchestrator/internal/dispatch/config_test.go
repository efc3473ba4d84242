package dispatch

import (
	"context"
	"crypto/tls"
	"strings"
	"testing"
)

func TestConfigIsChecked(t *testing.T) {
	one := []string{testService}
	for _, test := range []struct {
		name         string
		participants []Participant
		want         string // in the error; empty: it is fine
	}{
		{"loopback", []Participant{{Services: one, Target: "127.0.0.1:80"}}, ""},
		{"loopback, IPv6", []Participant{{Services: one, Target: "[::1]:80"}}, ""},
		{"localhost", []Participant{{Services: one, Target: "localhost:80"}}, ""},
		{"loopback by dns", []Participant{{Services: one, Target: "dns:///localhost:80"}}, ""},
		{"loopback passed through", []Participant{{Services: one, Target: "passthrough:///127.0.0.1:80"}}, ""},
		{"unix socket", []Participant{{Services: one, Target: "unix:/tmp/socket"}}, ""},
		{"another name server", []Participant{{Services: one, Target: "dns://10.0.0.1/localhost:80"}}, "isn't on this machine"},
		{"another machine", []Participant{{Services: one, Target: "customer.acme.example:443"}}, "isn't on this machine"},
		{"another machine, by scheme", []Participant{{Services: one, Target: "dns:///customer.acme.example:443"}}, "isn't on this machine"},
		{"an unknown scheme", []Participant{{Services: one, Target: "xds:///customer"}}, "isn't on this machine"},
		{"looks like loopback", []Participant{{Services: one, Target: "127.0.0.1.evil.example:80"}}, "isn't on this machine"},
		{"another machine, TLS", []Participant{{Services: one, Target: "customer.acme.example:443", TLS: &tls.Config{MinVersion: tls.VersionTLS12}}}, ""},
		{"another machine, plaintext allowed", []Participant{{Services: one, Target: "customer.acme.example:80", Plaintext: PlaintextAnywhere}}, ""},
		{"TLS and plaintext", []Participant{{Services: one, Target: "h:1", TLS: &tls.Config{MinVersion: tls.VersionTLS12}, Plaintext: PlaintextAnywhere}}, "both TLS"},
		{"no target", []Participant{{Services: one}}, "no target"},
		{"no service", []Participant{{Target: "localhost:80"}}, "serves nothing"},
		{"a method for a service", []Participant{{Services: []string{testMethod}, Target: "localhost:80"}}, "no service name"},
		{"a service twice", []Participant{{Services: one, Target: "localhost:80"}, {Services: one, Target: "localhost:81"}}, "localhost:81"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d, err := New(Config{Participants: test.participants, Logger: quiet})
			switch {
			case err == nil && test.want != "":
				t.Errorf("accepted; want an error with %q", test.want)
			case err != nil && (test.want == "" || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want %q", err, test.want)
			}
			if d != nil {
				if err := d.Close(context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
