package connection

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/schema"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

const (
	// MaxMessageBytes bounds a message from the orchestrator. A long saga with its payloads may be larger than gRPC's
	// default of 4 MiB.
	MaxMessageBytes = 64 << 20

	// keepaliveTime is just above the five minutes that a gRPC server allows by default.
	keepaliveTime = 5*time.Minute + 10*time.Second

	// firstDelay and longestDelay bound the wait before the client dials again. gRPC's default is two minutes: too long
	// for a person who has just started the orchestrator.
	firstDelay, longestDelay = 100 * time.Millisecond, time.Second

	// dialTimeout is gRPC's default.
	dialTimeout = 20 * time.Second
)

// Options say how to reach an orchestrator. Each field is the value of the flag in its comment.
type Options struct {
	// Address is --address: HOST:PORT or unix:PATH.
	Address string

	// TLS is --tls: TLS with the system's certificate authorities. Every other TLS option implies it.
	TLS bool

	// CAFile is --tls-ca: a PEM file with the certificate authorities to trust instead.
	CAFile string

	// CertFile and KeyFile are --tls-cert and --tls-key: PEM files with the client certificate and its key.
	CertFile, KeyFile string

	// ServerName is --tls-server-name: the name in the orchestrator's certificate, when it isn't the host of Address.
	ServerName string

	// TokenFile is --token-file: a file with a token to send with each call.
	TokenFile string

	// Insecure is --insecure: plaintext to an address that isn't loopback.
	Insecure bool

	// Timeout is --timeout: how long one call may take.
	Timeout time.Duration

	// Version is the version of this program, for the user agent.
	Version string
}

// Client is a connection to an orchestrator.
type Client struct {
	// Sagas and Events call the orchestrator's API.
	Sagas  treatyv1.SagaServiceClient
	Events treatyv1.EventServiceClient

	// Schema has the types that the orchestrator offers.
	Schema *schema.Schema

	conn             *grpc.ClientConn
	certificateAsked *atomic.Bool
}

// New makes a client. The client dials at the first call, and its schema fetches types until ctx ends. The error is a
// [*problem.Problem] when options contradict each other, a file can't be read, or plaintext isn't allowed for the
// address.
func New(ctx context.Context, options Options) (*Client, error) {
	if options.Timeout <= 0 {
		return nil, problem.Usage("--timeout must be more than 0")
	}
	certificateAsked := new(atomic.Bool)
	transport, err := options.credentials(certificateAsked)
	if err != nil {
		return nil, err
	}
	dialing := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessageBytes)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: firstDelay, Multiplier: 1.6, Jitter: 0.2, MaxDelay: longestDelay,
			},
			MinConnectTimeout: dialTimeout,
		}),
		grpc.WithUserAgent("treaty-cli/" + options.Version),
	}
	if options.TokenFile != "" {
		token, err := options.newTokenFile()
		if err != nil {
			return nil, err
		}
		dialing = append(dialing, grpc.WithPerRPCCredentials(token))
	}
	conn, err := grpc.NewClient(options.Address, dialing...)
	if err != nil {
		return nil, problem.Usage("--address "+strconv.Quote(options.Address)+" is invalid: "+err.Error(),
			"Write it as HOST:PORT or unix:PATH.")
	}
	return &Client{
		Sagas:            treatyv1.NewSagaServiceClient(conn),
		Events:           treatyv1.NewEventServiceClient(conn),
		Schema:           schema.New(ctx, conn, options.Timeout),
		conn:             conn,
		certificateAsked: certificateAsked,
	}, nil
}

// CertificateAsked reports whether the orchestrator has asked for a client certificate. It returns false for a nil
// client.
func (c *Client) CertificateAsked() bool { return c != nil && c.certificateAsked.Load() }

// Conn is the connection itself, for calls of other services.
func (c *Client) Conn() grpc.ClientConnInterface { return c.conn }

// Close closes the connection. Calls in flight fail.
func (c *Client) Close() {
	c.Schema.Close()
	// Every call has ended, so an error loses nothing.
	_ = c.conn.Close()
}
