package dispatch

import (
	"context"
	"crypto/tls"
	"strings"
	"testing"
)

func TestConfig(t *testing.T) {
	at := func(target string) Participant { return Participant{Services: []string{testService}, Target: target} }
	plaintext := func(p Participant) Participant {
		p.Plaintext = PlaintextAnywhere
		return p
	}
	secure := func(p Participant) Participant {
		p.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		return p
	}
	one := func(p Participant) []Participant { return []Participant{p} }
	const remote = "customer.acme.example:443"
	for _, test := range []struct {
		name         string
		participants []Participant
		want         string // in the error; empty for none
	}{
		{"loopback", one(at("127.0.0.1:80")), ""},
		{"loopback, IPv6", one(at("[::1]:80")), ""},
		{"localhost", one(at("localhost:80")), ""},
		{"loopback by dns", one(at("dns:///localhost:80")), ""},
		{"loopback by passthrough", one(at("passthrough:///127.0.0.1:80")), ""},
		{"unix socket", one(at("unix:/tmp/socket")), ""},
		{"another name server", one(at("dns://10.0.0.1/localhost:80")), "isn't on this machine"},
		{"another machine", one(at(remote)), "isn't on this machine"},
		{"another machine, by scheme", one(at("dns:///" + remote)), "isn't on this machine"},
		{"an unknown scheme", one(at("xds:///customer")), "isn't on this machine"},
		{"a name that begins like loopback", one(at("127.0.0.1.evil.example:80")), "isn't on this machine"},
		{"another machine, TLS", one(secure(at(remote))), ""},
		{"another machine, plaintext allowed", one(plaintext(at(remote))), ""},
		{"TLS and plaintext", one(secure(plaintext(at(remote)))), "both TLS"},
		{"no target", one(at("")), "no target"},
		{"no service", []Participant{{Target: "localhost:80"}}, "has no services"},
		{"method as a service", []Participant{{Services: []string{testMethod}, Target: "h:80"}}, "a service name"},
		{"a service twice", []Participant{at("localhost:80"), at("localhost:81")}, "localhost:81"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d, err := New(Config{Participants: test.participants, Logger: quiet})
			switch {
			case err == nil && test.want != "":
				t.Errorf("got no error, want %q", test.want)
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

// A target without a port would be called at the port of HTTPS.
func TestCheckTarget(t *testing.T) {
	for target, want := range map[string]string{
		"127.0.0.1:7101":               "",
		"localhost:7101":               "",
		"customer.acme.example:7101":   "",
		"customer.acme.example:grpc":   "",
		"[::1]:7101":                   "",
		"dns:///customer:7101":         "",
		"dns:customer:7101":            "",
		"dns://10.0.0.1/customer:7101": "",
		"passthrough:///customer:7101": "",
		"unix:/run/customer":           "",
		"unix:///run/customer":         "",
		"unix-abstract:customer":       "",
		"xds:///customer":              "",
		"127.0.0.1":                    "such as 127.0.0.1:7101",
		"127.0.0.1:":                   "such as 127.0.0.1:7101",
		"localhost":                    "such as localhost:7101",
		"customer.acme.example":        "such as customer.acme.example:7101",
		"::1":                          "such as [::1]:7101",
		"[::1]":                        "such as [::1]:7101",
		"dns:///customer":              "such as customer:7101",
		"dns:customer":                 "such as customer:7101",
		"dns://10.0.0.1/customer":      "such as customer:7101",
		"passthrough:///127.0.0.1":     "such as 127.0.0.1:7101",
	} {
		err := CheckTarget(target)
		switch {
		case err == nil && want != "":
			t.Errorf("%s: no error, want %q", target, want)
		case err != nil && (want == "" || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", target, err, want)
		}
	}
}
