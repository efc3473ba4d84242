package notification_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	_ "github.com/ncruces/go-sqlite3/driver"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	notificationv1 "github.com/treatyhq/treaty/gen/acme/notification/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/participant/participanttest"
)

// implementations are the commands that start the twins.
var implementations = map[string]func(*testing.T) []string{
	"go":         func(*testing.T) []string { return buildGo() },
	"typescript": buildNode,
}

var goBinary string

func TestMain(m *testing.M) {
	directory, err := os.MkdirTemp("", "notification")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goBinary = filepath.Join(directory, "notification")
	if out, err := exec.Command("go", "build", "-o", goBinary, "./go").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the twin in Go: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(directory)
	os.Exit(code)
}

func buildGo() []string { return []string{goBinary} }

func buildNode(t *testing.T) []string {
	t.Helper()
	return []string{testkit.BuildNode(t, "."), "dist/main.js"}
}

// process is a running service.
type process struct {
	notificationv1.NotificationServiceClient

	command    *exec.Cmd
	address    string
	connection *grpc.ClientConn

	health    healthgrpc.HealthClient
	privacy   privacyv1.UserDataServiceClient
	questions treatyv1.ParticipantServiceClient
	stderr    bytes.Buffer
}

// start starts a service with a database and further flags. Its clients use plaintext.
func start(t *testing.T, program []string, path string, flags ...string) *process {
	t.Helper()
	arguments := slices.Concat(program[1:], []string{"--listen=127.0.0.1:0", "--db=" + path}, flags)
	p := &process{command: exec.Command(program[0], arguments...)}
	p.command.Stderr = &p.stderr
	out, err := p.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.command.ProcessState == nil {
			p.stop(t)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "notification listening on ")
	if err != nil || !ok {
		_ = p.command.Wait()
		t.Fatalf("the service said %q, %v: %s", line, err, p.stderr.String())
	}
	p.address = address
	connection := participanttest.Dial(t, address)
	p.connection = connection
	p.NotificationServiceClient = notificationv1.NewNotificationServiceClient(connection)
	p.health = healthgrpc.NewHealthClient(connection)
	p.questions = treatyv1.NewParticipantServiceClient(connection)
	p.privacy = privacyv1.NewUserDataServiceClient(connection)
	return p
}

func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := p.command.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v: %s", err, p.stderr.String())
	}
}

func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.command.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = p.command.Wait()
}

func welcome() *notificationv1.SendWelcomeRequest {
	return &notificationv1.SendWelcomeRequest{
		Customer: "customers/1", DisplayName: "Ada", Email: "ada@example.com", CardLastFour: "1234",
	}
}

func describe(err error) string {
	s := status.Convert(err)
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return s.Code().String() + " " + info.GetDomain() + "/" + info.GetReason()
		}
	}
	return s.Code().String()
}

// TestConformance makes the same calls to both twins.
func TestConformance(t *testing.T) {
	action := func(saga string) func(context.Context) context.Context {
		return func(ctx context.Context) context.Context { return participanttest.Action(ctx, saga, 6) }
	}
	undo := func(saga string) func(context.Context) context.Context {
		return func(ctx context.Context) context.Context { return participanttest.Compensation(ctx, saga, 6) }
	}
	stale := func(saga string) func(context.Context) context.Context {
		return func(ctx context.Context) context.Context {
			return participant.Command{Saga: "sagas/" + saga, CommandID: "sagas/" + saga + "/steps/6",
				Direction: participant.Action, Attempt: 1}.Outgoing(ctx)
		}
	}
	malformed := func(ctx context.Context) context.Context {
		return metadata.AppendToOutgoingContext(ctx, participant.CommandIDKey, "sagas/m/steps/6",
			participant.DirectionKey, "sideways")
	}
	ahead := func(ctx context.Context) context.Context {
		return participant.Command{Saga: "sagas/e", CommandID: "sagas/e/steps/6", Direction: participant.Action,
			Attempt: 1,
			Epoch:   1<<63 - 1}.Outgoing(ctx)
	}
	lost := func(ctx context.Context) context.Context {
		return metadata.AppendToOutgoingContext(ctx, participant.SagaKey, "sagas/m")
	}
	person := func(ctx context.Context) context.Context { return ctx }
	invalid := &notificationv1.SendWelcomeRequest{Customer: "customers/1"}
	calls := []struct {
		name    string
		context func(context.Context) context.Context
		request *notificationv1.SendWelcomeRequest
		want    string
	}{
		{"action", action("a"), welcome(), "OK"},
		{"duplicate", action("a"), welcome(), "OK"},
		{"stale duplicate", stale("a"), welcome(), "Aborted treaty/STALE_EPOCH"},
		{"undo of what can't be undone", undo("a"), welcome(), "FailedPrecondition"},
		{"undo without action", undo("u"), welcome(), "OK"},
		{"undo again", undo("u"), welcome(), "OK"},
		{"late action", action("u"), welcome(), "FailedPrecondition treaty/COMPENSATED_BEFORE"},
		{"late action again", action("u"), welcome(), "FailedPrecondition treaty/COMPENSATED_BEFORE"},
		{"refused", action("r"), invalid, "InvalidArgument"},
		{"refused stays refused", action("r"), welcome(), "InvalidArgument"},
		{"undo of a refused action", undo("r"), welcome(), "OK"},
		{"an epoch far ahead", ahead, welcome(), "Unauthenticated treaty/EPOCH_AHEAD"},
		{"metadata without a command id", lost, welcome(), "InvalidArgument treaty/METADATA_INVALID"},
		{"malformed metadata", malformed, welcome(), "InvalidArgument treaty/METADATA_INVALID"},
		{"a person's call", person, welcome(), "OK"},
		{"a person's bad call", person, invalid, "InvalidArgument"},
	}
	wantLedger := []string{
		"sagas/a/steps/6 action executed +1",
		"sagas/u/steps/6 compensation null-compensated +1",
		"sagas/u/steps/6 action refused-late +1",
		"sagas/r/steps/6 action refused +1",
		"sagas/r/steps/6 compensation null-compensated +0",
	}
	for name, build := range implementations {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "notification.db")
			p := start(t, build(t), path)
			for _, c := range calls {
				_, err := p.SendWelcome(c.context(t.Context()), c.request)
				if got := describe(err); got != c.want {
					t.Errorf("%s: %s (%v), want %s", c.name, got, err, c.want)
				}
			}
			health, err := p.health.Check(t.Context(),
				&healthgrpc.HealthCheckRequest{Service: "acme.notification.v1.NotificationService"})
			if err != nil || health.GetStatus() != healthgrpc.HealthCheckResponse_SERVING {
				t.Errorf("health: %v, %v", health, err)
			}
			checkPages(t, p)
			p.stop(t)
			checkLedger(t, path, wantLedger)
		})
	}
}

// checkPages lists the two messages that the calls of TestConformance sent.
func checkPages(t *testing.T, p *process) {
	t.Helper()
	var texts []string
	for token := ""; ; {
		page, err := p.ListMessages(t.Context(), &notificationv1.ListMessagesRequest{PageSize: 1, PageToken: token,
			Customer: "customers/1"})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page.GetMessages() {
			texts = append(texts, m.GetText())
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	text := "Dear Ada, welcome to Acme. Your card ending in 1234 is on its way."
	if diff := cmp.Diff([]string{text, text}, texts); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
	for _, bad := range []*notificationv1.ListMessagesRequest{{PageSize: -1}, {PageToken: "no"}} {
		if _, err := p.ListMessages(t.Context(), bad); status.Code(err) != codes.InvalidArgument {
			t.Errorf("listing with %v: %v, want INVALID_ARGUMENT", bad, err)
		}
	}
}

func checkLedger(t *testing.T, path string, want []string) {
	t.Helper()
	ledger, err := participanttest.ReadLedger(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i, r := range ledger {
		got = append(got, fmt.Sprintf("%s %s %s +%d", r.CommandID, r.Direction, r.Verdict, r.Duplicates))
		if i > 0 && r.ExecutedAt.Before(ledger[i-1].ExecutedAt) {
			t.Errorf("%s was executed at %v, the row before at %v", r.CommandID, r.ExecutedAt, ledger[i-1].ExecutedAt)
		}
		if r.Method != "/acme.notification.v1.NotificationService/SendWelcome" {
			t.Errorf("%s: method %q", r.CommandID, r.Method)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ledger (-want +got):\n%s", diff)
	}
}

// asking returns the context of an orchestrator's question under an epoch.
func asking(t *testing.T, epoch string) context.Context {
	t.Helper()
	return metadata.AppendToOutgoingContext(t.Context(), participant.ScopeKey, "/0", participant.EpochKey, epoch)
}

// TestQuestions asks both twins what they know, under epochs of a scope.
func TestQuestions(t *testing.T) {
	const method = "acme.notification.v1.NotificationService/SendWelcome"
	digest, other := strings.Repeat("1", 64), strings.Repeat("2", 64)
	for name, build := range implementations {
		t.Run(name, func(t *testing.T) {
			p := start(t, build(t), filepath.Join(t.TempDir(), "notification.db"))
			command := func(saga string, direction participant.Direction, epoch uint64, digest string) context.Context {
				return participant.Command{
					Saga: "sagas/" + saga, CommandID: "sagas/" + saga + "/steps/6", Direction: direction, Attempt: 1,
					Epoch: epoch, Scope: "/0", RequestDigest: digest, Start: time.UnixMicro(1_000_000).UTC(),
				}.Outgoing(t.Context())
			}
			send := func(ctx context.Context, request *notificationv1.SendWelcomeRequest) string {
				var trailer metadata.MD
				_, err := p.SendWelcome(ctx, request, grpc.Trailer(&trailer))
				return strings.TrimSpace(describe(err) + " " + strings.Join(trailer[participant.AnswerKey], " "))
			}
			closing := func(saga, digest string) string {
				response, err := p.questions.CloseCommand(asking(t, "5"), &treatyv1.CloseCommandRequest{
					CommandId: "sagas/" + saga + "/steps/6", Method: method, RequestDigest: digest,
					SagaStart: timestamppb.New(time.UnixMicro(1_000_000)),
				})
				if err != nil {
					return describe(err)
				}
				outcome := response.ProtoReflect().WhichOneof(response.ProtoReflect().Descriptor().Oneofs().Get(0))
				return string(outcome.Name())
			}
			first, err := p.questions.Describe(asking(t, "4"), &treatyv1.DescribeRequest{StoreId: "a", Position: 7})
			features := slices.DeleteFunc(first.GetFeatures(), func(f treatyv1.ParticipantFeature) bool {
				return f == treatyv1.ParticipantFeature_PARTICIPANT_FEATURE_STREAM_COMMANDS // only in Go
			})
			if err != nil || first.GetHeard() != nil || len(features) != 3 ||
				!slices.Contains(first.GetKeptMethods(), method) ||
				!slices.Contains(first.GetServices(), "acme.notification.v1.NotificationService") ||
				!slices.Equal(first.GetReceivedKeys(), []string{participant.EpochKey, participant.ScopeKey}) {
				t.Errorf("at first: %v, %v", first, err)
			}
			var got []string
			for _, step := range []func() string{
				func() string { return send(command("a", participant.Action, 5, digest), welcome()) },
				func() string { return send(command("b", participant.Action, 4, digest), welcome()) },
				func() string { return send(command("a", participant.Action, 5, other), welcome()) },
				func() string {
					return send(command("r", participant.Action, 5, digest), &notificationv1.SendWelcomeRequest{})
				},
				func() string { return closing("a", digest) },
				func() string { return closing("a", other) },
				func() string { return closing("r", digest) },
				func() string { return closing("c", digest) },
				func() string { return send(command("c", participant.Action, 5, digest), welcome()) },
				func() string { return send(command("c", participant.Compensation, 5, digest), welcome()) },
				func() string { return closing("c", digest) },
			} {
				got = append(got, step())
			}
			want := []string{
				"OK", "Aborted treaty/STALE_EPOCH attempt", "Internal treaty/OTHER_REQUEST attempt",
				"InvalidArgument settled", "executed", "Internal treaty/OTHER_REQUEST", "refused", "closed",
				"FailedPrecondition treaty/CLOSED_BEFORE settled", "OK", "compensated",
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("answers (-want +got):\n%s", diff)
			}
			listed, err := p.questions.ListCommands(asking(t, "5"), &treatyv1.ListCommandsRequest{
				Sagas: []string{"sagas/a", "sagas/c"},
			})
			var rows []string
			for _, c := range listed.GetCommands() {
				rows = append(rows, fmt.Sprintf("%s %v %v %d", c.GetCommandId(), c.GetDirection(), c.GetVerdict(),
					c.GetSagaStart().GetSeconds()))
			}
			slices.Sort(rows)
			if diff := cmp.Diff([]string{
				"sagas/a/steps/6 STEP_DIRECTION_ACTION COMMAND_VERDICT_EXECUTED 1",
				"sagas/c/steps/6 STEP_DIRECTION_ACTION COMMAND_VERDICT_CLOSED 1",
				"sagas/c/steps/6 STEP_DIRECTION_COMPENSATION COMMAND_VERDICT_NULL_COMPENSATED 1",
			}, rows); err != nil || diff != "" {
				t.Errorf("listed: %v (-want +got):\n%s", err, diff)
			}
			again, err := p.questions.Describe(asking(t, "6"), &treatyv1.DescribeRequest{StoreId: "a",
				Horizon: timestamppb.Now()})
			if err != nil || again.GetHeard().GetEpoch() != 5 || again.GetHeard().GetPosition() != 7 ||
				again.GetHeard().GetStoreId() != "a" {
				t.Errorf("then: %v, %v", again, err)
			}
			if got := send(command("p", participant.Action, 6, digest), welcome()); got !=
				"Internal treaty/PURGED attempt" {
				t.Errorf("a command from before the horizon: %s", got)
			}
			if _, err := p.questions.Describe(asking(t, "5"), &treatyv1.DescribeRequest{}); describe(err) !=
				"Aborted treaty/STALE_EPOCH" {
				t.Errorf("under an epoch that was replaced: %v", err)
			}
		})
	}
}

// TestUnknownMethods calls methods that aren't served. The answers have the participant's mark.
func TestUnknownMethods(t *testing.T) {
	for name, build := range implementations {
		t.Run(name, func(t *testing.T) {
			p := start(t, build(t), filepath.Join(t.TempDir(), "notification.db"))
			for _, method := range []string{
				"/acme.notification.v1.NotificationService/SendGreeting",
				"/acme.greeting.v1.GreetingService/SendGreeting", "/treaty.v1.ParticipantService/Forget",
			} {
				for who, ctx := range map[string]context.Context{
					"an orchestrator": participanttest.Action(t.Context(), "s", 1), "a person": t.Context(),
				} {
					var trailer metadata.MD
					err := p.connection.Invoke(ctx, method, welcome(), &emptypb.Empty{}, grpc.Trailer(&trailer))
					if got := trailer[participant.AnswerKey]; status.Code(err) != codes.Unimplemented ||
						!slices.Equal(got, []string{"attempt"}) {
						t.Errorf("%s calls %s: %v with the marks %q, want UNIMPLEMENTED with attempt", who, method, err,
							got)
					}
				}
			}
			if _, err := p.SendWelcome(participanttest.Action(t.Context(), "s", 2), welcome()); err != nil {
				t.Errorf("a method that is served: %v", err)
			}
		})
	}
}

// TestOrchestratorIdentities makes calls over TLS as callers with various certificates, all of one authority.
func TestOrchestratorIdentities(t *testing.T) {
	const id, dns = "spiffe://acme.example/sagas", "sagas.acme.example"
	named := func(uri string, names ...string) *x509.Certificate {
		certificate := &x509.Certificate{DNSNames: names}
		if uri != "" {
			parsed, err := url.Parse(uri)
			if err != nil {
				t.Fatal(err)
			}
			certificate.URIs = []*url.URL{parsed}
		}
		return certificate
	}
	commonly := func(name string, certificate *x509.Certificate) *x509.Certificate {
		certificate.Subject.CommonName = name
		return certificate
	}
	callers := []struct {
		name        string
		certificate *x509.Certificate
		believed    bool // if the service believes both identities
	}{
		{"the URI", named(id), true},
		{"the DNS name", named("", "other.example", "SAGAS.acme.example"), true},
		{"the common name alone", commonly(dns, named("")), true},
		{"the common name beside another name", commonly(dns, named("", "other.example")), false},
		{"the URI as a common name", commonly(id, named("")), false},
		{"another URI", named(id + "/more"), false},
		{"a URI that looks like two names", named("spiffe://acme.example/a?b=c, DNS:" + dns), false},
		{"a common name that looks like two", commonly("a\nCN="+dns, named("")), false},
		{"no name", named(""), false},
	}
	authority, dir := testkit.NewAuthority(t), t.TempDir()
	cert, key := authority.Issue(t, "notification").Write(t, dir, "server")
	ca := testkit.WriteFile(t, dir, "ca.pem", authority.PEM())
	tlsFlags := []string{"--tls-cert=" + cert, "--tls-key=" + key, "--tls-client-ca=" + ca}
	for name, build := range implementations {
		for _, config := range []struct {
			name  string
			flags []string
			all   bool // believes every caller
		}{
			{"identities", []string{"--orchestrator-identity=" + id, "--orchestrator-identity=" + dns}, false},
			{"none", nil, true},
			{"any", []string{"--orchestrator-identity=*"}, true},
		} {
			t.Run(name+" "+config.name, func(t *testing.T) {
				p := start(t, build(t), filepath.Join(t.TempDir(), "notification.db"),
					slices.Concat(tlsFlags, config.flags)...)
				for i, c := range callers {
					connection := dialTLS(t, p.address, authority, authority.IssueAs(t, c.certificate))
					want := []string{"OK", "Unimplemented attempt", "OK done", "OK", "OK"}
					if !c.believed && !config.all {
						const no = "Unauthenticated treaty/CALLER_NOT_BELIEVED attempt"
						want = []string{no, no, no, no, "OK"}
					}
					if diff := cmp.Diff(want, callEverything(t, connection, fmt.Sprint("s", i))); diff != "" {
						t.Errorf("%s: the answers to a command, a command that isn't served, a question, a read for a "+
							"saga, and a read (-want +got):\n%s", c.name, diff)
					}
				}
			})
		}
	}
}

// callEverything makes a call of each kind, and returns the answers with their marks.
func callEverything(t *testing.T, connection *grpc.ClientConn, saga string) (answers []string) {
	t.Helper()
	command := participanttest.Action(t.Context(), saga, 1)
	for _, call := range []struct {
		context context.Context
		method  string
		request proto.Message
	}{
		{command, notificationv1.NotificationService_SendWelcome_FullMethodName, welcome()},
		{command, "/acme.greeting.v1.GreetingService/SendGreeting", welcome()},
		{asking(t, "4"), treatyv1.ParticipantService_Describe_FullMethodName, &treatyv1.DescribeRequest{}},
		{command, notificationv1.NotificationService_ListMessages_FullMethodName, &emptypb.Empty{}},
		{t.Context(), notificationv1.NotificationService_ListMessages_FullMethodName, &emptypb.Empty{}},
	} {
		var trailer metadata.MD
		err := connection.Invoke(call.context, call.method, call.request, &emptypb.Empty{}, grpc.Trailer(&trailer))
		answers = append(answers,
			strings.TrimSpace(describe(err)+" "+strings.Join(trailer[participant.AnswerKey], " ")))
	}
	return answers
}

// dialTLS connects to a service with a client certificate.
func dialTLS(
	t *testing.T, address string, authority *testkit.Authority, certificate testkit.Certificate,
) *grpc.ClientConn {
	t.Helper()
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		RootCAs: authority.Pool, Certificates: []tls.Certificate{certificate.Certificate}, MinVersion: tls.VersionTLS13,
	})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}

// TestTakingOver lets the twins replace each other on one database, also after a kill.
func TestTakingOver(t *testing.T) {
	node, twin := buildNode(t), buildGo()
	path := filepath.Join(t.TempDir(), "notification.db")
	var first *notificationv1.WelcomeSent
	for i, program := range [][]string{twin, node, node, twin, node} {
		p := start(t, program, path)
		reply, err := p.SendWelcome(participanttest.Action(t.Context(), "s", 6), welcome())
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = reply
		}
		if diff := cmp.Diff(first, reply, protocmp.Transform()); diff != "" {
			t.Errorf("process %d, %s, has another reply (-first +this):\n%s", i, program, diff)
		}
		if _, err := p.SendWelcome(participanttest.Action(t.Context(), fmt.Sprintf("t%d", i), 6),
			welcome()); err != nil {
			t.Error(err)
		}
		if i%2 == 0 {
			p.stop(t)
		} else {
			p.kill(t)
		}
	}
	checkLedger(t, path, []string{
		"sagas/s/steps/6 action executed +4",
		"sagas/t0/steps/6 action executed +0", "sagas/t1/steps/6 action executed +0",
		"sagas/t2/steps/6 action executed +0",
		"sagas/t3/steps/6 action executed +0", "sagas/t4/steps/6 action executed +0",
	})
}

func TestSameSchema(t *testing.T) {
	schemas := map[string]string{}
	for name, build := range implementations {
		path := filepath.Join(t.TempDir(), name+".db")
		start(t, build(t), path).stop(t)
		schemas[name] = schemaOf(t, path)
	}
	if diff := cmp.Diff(schemas["go"], schemas["typescript"]); diff != "" {
		t.Errorf("schema (-go +typescript):\n%s", diff)
	}
}

func schemaOf(t *testing.T, path string) (schema string) {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	query := `SELECT (SELECT * FROM pragma_user_version) || group_concat(sql, char(10) ORDER BY name)
		FROM sqlite_master`
	if err := db.QueryRow(query).Scan(&schema); err != nil {
		t.Fatal(err)
	}
	return schema
}

// TestBadStarts starts the twins in ways that must fail with one clear line.
func TestBadStarts(t *testing.T) {
	for name, build := range implementations {
		t.Run(name, func(t *testing.T) {
			program := build(t)
			directory := t.TempDir()
			running := start(t, program, filepath.Join(directory, "running.db"))
			garbage := filepath.Join(directory, "garbage.db")
			if err := os.WriteFile(garbage, bytes.Repeat([]byte("garbage "), 1000), 0o600); err != nil {
				t.Fatal(err)
			}
			free := filepath.Join(directory, "free.db")
			for _, test := range []struct {
				name      string
				arguments []string
				code      int
				want      string
			}{
				{"port in use", []string{"--listen=" + running.address, "--db=" + free}, 1, "the port is in use"},
				{"plaintext", []string{"--listen=0.0.0.0:0", "--db=" + free}, -1,
					"plaintext is allowed on loopback addresses only"},
				{"unknown flag", []string{"--nonsense"}, 2, "nonsense"},
				{"argument", []string{"nonsense"}, 2, "nonsense"},
				{"garbage", []string{"--listen=127.0.0.1:0", "--db=" + garbage}, 1, garbage},
				{"no directory", []string{"--listen=127.0.0.1:0", "--db=" + filepath.Join(directory, "none", "x.db")},
					1, "its directory doesn't exist"},
				{"half of TLS", []string{"--tls-cert=x", "--db=" + free}, -1, "--tls-key"},
				{"an identity without certificates", []string{"--orchestrator-identity=a", "--db=" + free}, -1,
					"--orchestrator-identity requires --tls-client-ca"},
				{"no identity", []string{"--orchestrator-identity=", "--db=" + free}, -1,
					"--orchestrator-identity is empty"},
			} {
				out, err := exec.Command(program[0], append(program[1:], test.arguments...)...).CombinedOutput()
				var exit *exec.ExitError
				e := &exec.ExitError{}
				if errors.As(err, &e) {
					exit = e
				}
				text := string(out)
				if exit == nil || test.code > 0 && exit.ExitCode() != test.code || !strings.Contains(text, test.want) ||
					strings.Contains(text, "goroutine ") || strings.Contains(text, "    at ") {
					t.Errorf("%s: %v, %q; want exit code %d and %q", test.name, err, text, test.code, test.want)
				}
			}
		})
	}
}

// TestLedgerOfARunningService checks that the file of a running service in TypeScript can't be read: its SQLite library
// has its own kind of lock.
func TestLedgerOfARunningService(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notification.db")
	p := start(t, buildNode(t), path)
	if _, err := participanttest.ReadLedger(t.Context(), path); !errors.Is(err, participanttest.ErrInUse) {
		t.Errorf("while it runs: %v, want ErrInUse", err)
	}
	p.kill(t)
	if _, err := participanttest.ReadLedger(t.Context(), path); err != nil {
		t.Errorf("after a kill: %v", err)
	}
}
