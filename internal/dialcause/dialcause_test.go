package dialcause_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/treatyhq/treaty/internal/dialcause"
	"github.com/treatyhq/treaty/internal/testkit"
)

// TestCauses connects clients and servers that don't fit, and finds the cause in what gRPC says.
func TestCauses(t *testing.T) {
	ours, theirs := testkit.NewAuthority(t), testkit.NewAuthority(t)
	issued := ours.Issue(t, "server.test")
	server := func(config *tls.Config) credentials.TransportCredentials {
		config.MinVersion, config.Certificates = tls.VersionTLS12, []tls.Certificate{issued.Certificate}
		return credentials.NewTLS(config)
	}
	client := func(config *tls.Config) credentials.TransportCredentials {
		config.MinVersion = tls.VersionTLS12
		if config.ServerName == "" {
			config.ServerName = "server.test"
		}
		if config.RootCAs == nil {
			config.RootCAs = ours.Pool
		}
		return credentials.NewTLS(config)
	}
	// With TLS 1.3, a client may learn why it was refused, or only that the connection broke.
	mutual := func(now func() time.Time) *tls.Config {
		return &tls.Config{
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.Pool, MaxVersion: tls.VersionTLS12, Time: now,
		}
	}
	later := func() time.Time { return time.Now().AddDate(100, 0, 0) }
	own := ours.Issue(t, "client.test").Certificate
	stranger := theirs.Issue(t, "client.test").Certificate
	for _, test := range []struct {
		name           string
		server, client credentials.TransportCredentials
		want           dialcause.Cause
	}{
		{"plaintext to TLS", server(&tls.Config{}), insecure.NewCredentials(), dialcause.NoPreface},
		{"TLS to plaintext", insecure.NewCredentials(), client(&tls.Config{}), dialcause.Plaintext},
		{"expired", server(&tls.Config{}), client(&tls.Config{Time: later}), dialcause.Expired},
		{"unknown authority", server(&tls.Config{}), client(&tls.Config{RootCAs: theirs.Pool}),
			dialcause.UnknownAuthority},
		{"another name", server(&tls.Config{}), client(&tls.Config{ServerName: "other.test"}), dialcause.OtherName},
		{"another usage", credentials.NewTLS(&tls.Config{
			MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{ours.IssueAs(t, &x509.Certificate{
				DNSNames: []string{"server.test"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
			}).Certificate},
		}), client(&tls.Config{}), dialcause.OtherUsage},
		{"a stranger's client certificate", server(mutual(time.Now)), client(&tls.Config{
			Certificates: []tls.Certificate{stranger},
		}), dialcause.ClientCertificateUntrusted},
		{"an expired client certificate", server(mutual(later)), client(&tls.Config{
			Certificates: []tls.Certificate{own},
		}), dialcause.ClientCertificateExpired},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			address := testkit.Serve(t, grpc.NewServer(grpc.Creds(test.server)))
			conn := testkit.Dial(t, address, grpc.WithTransportCredentials(test.client))
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
			if err == nil {
				t.Fatal("the call succeeded")
			}
			if got := dialcause.Of(err.Error()); got != test.want {
				t.Errorf("%v: the cause is %q, want %q", err, got, test.want)
			}
		})
	}
	for message, want := range map[string]dialcause.Cause{
		"dial tcp 127.0.0.1:1: connect: connection refused":                     dialcause.Other,
		"dial tcp 127.0.0.1:1: socket: too many open files":                     dialcause.NoDescriptors,
		"error reading server preface: remote error: tls: certificate required": dialcause.ClientCertificateRequired,
	} {
		if got := dialcause.Of(message); got != want || (got.String() == "") != (want == dialcause.Other) {
			t.Errorf("%s: the cause is %q, want %q", message, got, want)
		}
	}
}
