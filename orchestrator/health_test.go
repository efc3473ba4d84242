package orchestrator_test

import (
	"path/filepath"
	"testing"

	channelzv1 "google.golang.org/grpc/channelz/grpc_channelz_v1"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator"
)

// TestHealthListener checks the health of an orchestrator with mutual TLS without a certificate. Nothing else is served
// there.
func TestHealthListener(t *testing.T) {
	authority := testkit.NewAuthority(t)
	dir := t.TempDir()
	cert, key := authority.Issue(t, "").Write(t, dir, "api")
	address := "unix:" + filepath.Join(dir, "health")
	w := unopened(t, newParticipants(t))
	w.options = []orchestrator.Option{
		orchestrator.WithTLS(cert, key), orchestrator.WithHealthListener(address),
		orchestrator.WithClientCA(testkit.WriteFile(t, dir, "ca.pem", authority.PEM())),
	}
	w.open()
	conn := testkit.Dial(t, address)
	health := healthv1.NewHealthClient(conn)
	for _, service := range []string{"", "live", "treaty.v1.SagaService"} {
		got, err := health.Check(w.ctx(), &healthv1.HealthCheckRequest{Service: service})
		if err != nil || got.GetStatus() != healthv1.HealthCheckResponse_SERVING {
			t.Errorf("%q: %v, %v", service, got, err)
		}
	}
	for name, call := range map[string]func() error{
		"the API": func() error {
			_, err := treatyv1.NewSagaServiceClient(conn).ListSagas(w.ctx(), new(treatyv1.ListSagasRequest))
			return err
		},
		"channelz": func() error {
			_, err := channelzv1.NewChannelzClient(conn).GetServers(w.ctx(), new(channelzv1.GetServersRequest))
			return err
		},
		"reflection": func() error {
			stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(w.ctx())
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		},
	} {
		if err := call(); status.Code(err) != codes.Unimplemented {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.stop()
	if _, err := health.Check(w.ctx(), new(healthv1.HealthCheckRequest)); status.Code(err) != codes.Unavailable {
		t.Errorf("after the stop: %v", err)
	}
}

// TestServicesBySwitch looks at which of gRPC's own services are served.
func TestServicesBySwitch(t *testing.T) {
	for name, test := range map[string]struct {
		address              string
		options              []orchestrator.Option
		channelz, reflection codes.Code
	}{
		"loopback":        {"127.0.0.1:0", nil, codes.OK, codes.OK},
		"beyond loopback": {"0.0.0.0:0", nil, codes.Unimplemented, codes.OK},
		"channelz beyond loopback": {"0.0.0.0:0", []orchestrator.Option{orchestrator.WithChannelz()},
			codes.OK, codes.OK},
		"no reflection": {"127.0.0.1:0", []orchestrator.Option{orchestrator.WithoutReflection()},
			codes.OK, codes.Unimplemented},
	} {
		t.Run(name, func(t *testing.T) {
			w := unopened(t, newParticipants(t))
			w.address, w.options = test.address, append(test.options, orchestrator.WithInsecure())
			w.open()
			_, err := channelzv1.NewChannelzClient(w.conn).GetServers(w.ctx(), new(channelzv1.GetServersRequest))
			if status.Code(err) != test.channelz {
				t.Errorf("channelz: %v", err)
			}
			stream, err := reflectionv1.NewServerReflectionClient(w.conn).ServerReflectionInfo(w.ctx())
			if err != nil {
				t.Fatal(err)
			}
			// An error here is that of the stream, which Recv returns.
			_ = stream.Send(&reflectionv1.ServerReflectionRequest{
				MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{},
			})
			if _, err := stream.Recv(); status.Code(err) != test.reflection {
				t.Errorf("reflection: %v", err)
			}
		})
	}
}
