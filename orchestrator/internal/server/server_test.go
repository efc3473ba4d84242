package server_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"slices"
	"testing"

	channelzv1 "google.golang.org/grpc/channelz/grpc_channelz_v1"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/server"
)

func TestHealth(t *testing.T) {
	a := newTestServer(t)
	client := healthv1.NewHealthClient(a.conn)
	check := func(service string, want healthv1.HealthCheckResponse_ServingStatus) {
		t.Helper()
		got, err := client.Check(a.ctx(), &healthv1.HealthCheckRequest{Service: service})
		if err != nil || got.GetStatus() != want {
			t.Errorf("%q is %v (%v), want %v", service, got.GetStatus(), err, want)
		}
	}
	services := []string{
		"",
		"treaty.v1.SagaService",
		"treaty.v1.EventService",
		"acme.identity.v1.IdentitySagas",
		"acme.customer.v1.CustomerSagas",
		"acme.card.v1.CardSagas",
	}
	for _, service := range services {
		check(service, healthv1.HealthCheckResponse_NOT_SERVING)
	}
	watch, err := client.Watch(a.ctx(), &healthv1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	next := func(want healthv1.HealthCheckResponse_ServingStatus) {
		t.Helper()
		got, err := watch.Recv()
		if err != nil || got.GetStatus() != want {
			t.Errorf("watched: %v (%v), want %v", got.GetStatus(), err, want)
		}
	}
	next(healthv1.HealthCheckResponse_NOT_SERVING)
	a.server.SetReady()
	next(healthv1.HealthCheckResponse_SERVING)
	for _, service := range services {
		check(service, healthv1.HealthCheckResponse_SERVING)
	}
	stopped, cancel := context.WithCancel(a.ctx())
	cancel()
	a.server.Drain(stopped)
	next(healthv1.HealthCheckResponse_NOT_SERVING)
	a.server.SetReady()
	if _, err := client.Check(a.ctx(), &healthv1.HealthCheckRequest{Service: "acme.v1.Nope"}); err == nil {
		t.Error("an unknown service has a health, or a draining server accepts calls")
	}
}

func TestChannelz(t *testing.T) {
	a := newTestServer(t)
	got, err := channelzv1.NewChannelzClient(a.conn).GetServers(a.ctx(), &channelzv1.GetServersRequest{})
	if err != nil || len(got.GetServer()) == 0 {
		t.Errorf("servers %v, %v", got, err)
	}
}

// A client without generated code starts a saga by reflection and JSON, as grpcurl does.
func TestSagaIsStartedByReflection(t *testing.T) {
	a := newTestServer(t)
	a.engine.start = func(_ context.Context, p engine.StartParams) (server.Started, error) {
		in := new(customerv1.ChangeAddressSagaRequest)
		if err := proto.Unmarshal(p.Request, in); err != nil {
			return nil, err
		}
		return handle{end: succeeded(t, &customerv1.AddressAgreed{Customer: in.GetCustomer(), AddressRevision: 7})}, nil
	}
	stream, err := reflectionv1.NewServerReflectionClient(a.conn).ServerReflectionInfo(a.ctx())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(question *reflectionv1.ServerReflectionRequest) *reflectionv1.ServerReflectionResponse {
		t.Helper()
		if err := stream.Send(question); err != nil {
			t.Fatal(err)
		}
		answer, err := stream.Recv()
		if err != nil || answer.GetErrorResponse() != nil {
			t.Fatal(answer, err)
		}
		return answer
	}
	var services []string
	for _, s := range ask(
		&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}},
	).GetListServicesResponse().GetService() {
		services = append(services, s.GetName())
	}
	for _, want := range []string{"acme.customer.v1.CustomerSagas", "acme.card.v1.CardSagas", "treaty.v1.SagaService",
		"treaty.v1.EventService", "acme.identity.v1.IdentitySagas", "grpc.health.v1.Health"} {
		if !slices.Contains(services, want) {
			t.Errorf("%s isn't among %v", want, services)
		}
	}
	set := new(descriptorpb.FileDescriptorSet)
	for _, file := range ask(&reflectionv1.ServerReflectionRequest{
		MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{
			FileContainingSymbol: "acme.customer.v1.CustomerSagas",
		},
	}).GetFileDescriptorResponse().GetFileDescriptorProto() {
		descriptor := new(descriptorpb.FileDescriptorProto)
		if err := proto.Unmarshal(file, descriptor); err != nil {
			t.Fatal(err)
		}
		set.File = append(set.File, descriptor)
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		t.Fatal(err)
	}
	found, err := files.FindDescriptorByName("acme.customer.v1.CustomerSagas.ChangeAddress")
	if err != nil {
		t.Fatal(err)
	}
	method, ok := found.(protoreflect.MethodDescriptor)
	if !ok {
		t.Fatalf("%v isn't a method", found)
	}
	request, reply := dynamicpb.NewMessage(method.Input()), dynamicpb.NewMessage(method.Output())
	if err := protojson.Unmarshal(
		[]byte(`{"customer": "customers/ada", "address": {"city": "Springfield"}}`), request,
	); err != nil {
		t.Fatal(err)
	}
	if err := a.conn.Invoke(a.ctx(), "/acme.customer.v1.CustomerSagas/ChangeAddress", request, reply); err != nil {
		t.Fatal(err)
	}
	if got := reply.Get(method.Output().Fields().ByName("address_revision")).Int(); got != 7 {
		t.Errorf("reply %v", reply)
	}
}

// TestDecisionsNameThePrincipal decides with different certificates. Whom the caller names is only a note beside it.
func TestDecisionsNameThePrincipal(t *testing.T) {
	authority := testkit.NewAuthority(t)
	for name, test := range map[string]struct {
		names     x509.Certificate
		want      string // the actor, if the caller names none
		principal string
	}{
		"subject": {
			x509.Certificate{Subject: pkix.Name{CommonName: "ada", Organization: []string{"Acme"}}}, "CN=ada,O=Acme",
			"x509:CN=authority:CN=ada,O=Acme",
		},
		"uri": {
			x509.Certificate{URIs: []*url.URL{{Scheme: "spiffe", Host: "acme", Path: "/ops"}}}, "spiffe://acme/ops",
			"spiffe://acme/ops",
		},
		"name": {x509.Certificate{DNSNames: []string{"ops.acme.example"}}, "ops.acme.example", "x509:CN=authority:"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newSecureTestServer(t, security{
				server: &tls.Config{
					Certificates: []tls.Certificate{authority.Issue(t, "orchestrator").Certificate},
					ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: authority.Pool,
					MinVersion: tls.VersionTLS12,
				},
				client: &tls.Config{
					RootCAs:      authority.Pool,
					Certificates: []tls.Certificate{authority.IssueAs(t, &test.names).Certificate},
					MinVersion:   tls.VersionTLS12,
				},
			})
			var got *treatyv1.Decision
			a.engine.cancel = func(_ string, params engine.CancelParams) error { got = params.Decision; return nil }
			for named, want := range map[string]string{"": test.want, "somebody else": "somebody else"} {
				if _, err := a.sagas.CancelSaga(a.ctx(), &treatyv1.CancelSagaRequest{
					Name:     "sagas/a1",
					Decision: &treatyv1.Decision{Actor: named, Reason: "why not", Principal: "made up"},
				}); err != nil {
					t.Fatal(err)
				}
				if got.GetActor() != want || got.GetPrincipal() != test.principal {
					t.Errorf("actor %q, principal %q; want %q, %q", got.GetActor(), got.GetPrincipal(), want,
						test.principal)
				}
			}
		})
	}
}

func TestClientWithoutCertificateIsRejected(t *testing.T) {
	authority, stranger := testkit.NewAuthority(t), testkit.NewAuthority(t)
	a := newSecureTestServer(t, security{
		server: &tls.Config{
			Certificates: []tls.Certificate{authority.Issue(t, "orchestrator").Certificate},
			ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: authority.Pool, MinVersion: tls.VersionTLS12,
		},
		client: &tls.Config{
			RootCAs:      authority.Pool,
			Certificates: []tls.Certificate{stranger.Issue(t, "stranger").Certificate},
			MinVersion:   tls.VersionTLS12,
		},
	})
	_, err := a.sagas.GetSaga(a.ctx(), &treatyv1.GetSagaRequest{Name: "sagas/a1"})
	if status.Code(err) != codes.Unavailable { // from the server, or from a broken connection
		t.Errorf("error %v", err)
	}
}
