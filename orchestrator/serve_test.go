package orchestrator_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/stores"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

func TestSagaSucceeds(t *testing.T) {
	w := newSystem(t)
	var header metadata.MD
	got, err := w.acme.ChangeAddress(w.ctx(), move("one", "Main Street 1"), grpc.Header(&header))
	if err != nil {
		t.Fatal(err)
	}
	if got.GetAddressRevision() != 2 {
		t.Errorf("reply %v", got)
	}
	name := header.Get(wire.SagaKey)[0]
	shown, err := w.sagas.WaitSaga(w.ctx(), &treatyv1.WaitSagaRequest{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	if shown.GetState() != treatyv1.SagaState_SAGA_STATE_SUCCEEDED || len(shown.GetSteps()) != 2 ||
		shown.GetRequestId() != "one" {
		t.Errorf("saga %v", shown)
	}
	health, err := healthv1.NewHealthClient(w.conn).Check(w.ctx(), &healthv1.HealthCheckRequest{})
	if err != nil || health.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		t.Errorf("health %v, %v", health, err)
	}
}

func TestRefusedSagaIsCompensated(t *testing.T) {
	w := newSystem(t)
	_, err := w.acme.ChangeAddress(w.ctx(), move("", "P.O. box 1"))
	reason, name := info(err)
	if status.Code(err) != codes.FailedPrecondition || reason != treatyv1.ErrorReason_ERROR_REASON_SAGA_COMPENSATED {
		t.Errorf("error %v, reason %s", err, reason)
	}
	var rejection *cardv1.AddressNotServed
	for _, detail := range status.Convert(err).Details() {
		if r, ok := detail.(*cardv1.AddressNotServed); ok {
			rejection = r
		}
	}
	if rejection.GetReason() != "a P.O. box" {
		t.Errorf("details %v", status.Convert(err).Details())
	}
	if got, want := w.participants.seen(), "ChangeAddress ChangePostalAddress RestoreAddress"; got != want {
		t.Errorf("calls %s, want %s", got, want)
	}
	records, err := w.sagas.ListSagaRecords(w.ctx(), &treatyv1.ListSagaRecordsRequest{Parent: name})
	if err != nil {
		t.Fatal(err)
	}
	last := records.GetRecords()[len(records.GetRecords())-1]
	if last.GetRecord().GetSagaCompensated() == nil {
		t.Errorf("the last record is %v", last)
	}
}

func TestStartIsIdempotent(t *testing.T) {
	w := newSystem(t)
	var first, second metadata.MD
	if _, err := w.acme.ChangeAddress(w.ctx(), move("one", "Main Street 1"), grpc.Header(&first)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.acme.ChangeAddress(w.ctx(), move("one", "Main Street 1"), grpc.Header(&second)); err != nil {
		t.Fatal(err)
	}
	if first.Get(wire.SagaKey)[0] != second.Get(wire.SagaKey)[0] {
		t.Errorf("%v and %v", first, second)
	}
	_, err := w.acme.ChangeAddress(w.ctx(), move("one", "Side Street 2"))
	reason, name := info(err)
	if status.Code(err) != codes.AlreadyExists || reason != treatyv1.ErrorReason_ERROR_REASON_OTHER_REQUEST ||
		name != first.Get(wire.SagaKey)[0] {
		t.Errorf("error %v, reason %s, saga %s", err, reason, name)
	}
	if got, want := w.participants.seen(), "ChangeAddress ChangePostalAddress"; got != want {
		t.Errorf("calls %s, want %s", got, want)
	}
	request, err := anypb.New(move("one", "Main Street 1"))
	if err != nil {
		t.Fatal(err)
	}
	created, err := w.sagas.CreateSaga(w.ctx(),
		&treatyv1.CreateSagaRequest{Definition: changeAddress, Request: request})
	if err != nil || created.GetName() != name {
		t.Errorf("created %v, %v", created, err)
	}
}

// The orchestrator stops in the middle of a saga; the next one ends it, and the same request id leads to it.
func TestSagaGoesOnInTheNextProcess(t *testing.T) {
	w := newSystem(t)
	release := w.participants.stall()
	defer release()
	errs, ctx := make(chan error, 1), w.ctx()
	go func() {
		_, err := w.acme.ChangeAddress(ctx, move("one", "Main Street 1"))
		errs <- err
	}()
	<-w.participants.held
	w.stop()
	if reason, _ := info(<-errs); reason != treatyv1.ErrorReason_ERROR_REASON_STOPPING {
		t.Errorf("reason %s", reason)
	}
	release()
	w.open()
	if w.ready.Recovered != 1 {
		t.Errorf("%d sagas recovered", w.ready.Recovered)
	}
	if _, err := w.acme.ChangeAddress(w.ctx(), move("one", "Main Street 1")); err != nil {
		t.Error(err)
	}
}

func TestWatchAndCancel(t *testing.T) {
	w := newSystem(t)
	release := w.participants.stall()
	defer release()
	request, err := anypb.New(move("", "Main Street 1"))
	if err != nil {
		t.Fatal(err)
	}
	created, err := w.sagas.CreateSaga(w.ctx(),
		&treatyv1.CreateSagaRequest{Definition: changeAddress, Request: request, SagaId: "move-1"})
	if err != nil || created.GetName() != "sagas/move-1" {
		t.Fatal(created, err)
	}
	<-w.participants.held
	stream, err := w.sagas.WatchSaga(w.ctx(), &treatyv1.WatchSagaRequest{Name: created.GetName()})
	if err != nil {
		t.Fatal(err)
	}
	if first, err := stream.Recv(); err != nil || first.GetSaga().GetState() != treatyv1.SagaState_SAGA_STATE_RUNNING {
		t.Fatal(first, err)
	}
	_, err = w.sagas.CancelSaga(w.ctx(), &treatyv1.CancelSagaRequest{Name: created.GetName(),
		Decision: &treatyv1.Decision{Actor: "ada", Reason: "typo"}})
	if err != nil {
		t.Fatal(err)
	}
	release()
	var last *treatyv1.Saga
	for {
		next, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		last = next.GetSaga()
	}
	if last.GetState() != treatyv1.SagaState_SAGA_STATE_COMPENSATED ||
		last.GetCause() != treatyv1.CompensationCause_COMPENSATION_CAUSE_CANCELLED {
		t.Errorf("at last %v", last)
	}
}

func TestOperatorResumesASuspendedSaga(t *testing.T) {
	w := newSystem(t)
	w.participants.restores = 1
	request, err := anypb.New(move("", "P.O. box 1"))
	if err != nil {
		t.Fatal(err)
	}
	created, err := w.sagas.CreateSaga(w.ctx(),
		&treatyv1.CreateSagaRequest{Definition: changeAddress, Request: request})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := w.sagas.WatchSaga(w.ctx(), &treatyv1.WatchSagaRequest{Name: created.GetName()})
	if err != nil {
		t.Fatal(err)
	}
	for {
		next, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if next.GetSaga().GetState() == treatyv1.SagaState_SAGA_STATE_SUSPENDED {
			break
		}
	}
	listed, err := w.sagas.ListSagas(w.ctx(),
		&treatyv1.ListSagasRequest{Filter: `state = "SUSPENDED" AND labels.customer = "customers/ada"`})
	if err != nil || len(listed.GetSagas()) != 1 || listed.GetSagas()[0].GetName() != created.GetName() {
		t.Errorf("listed %v, %v", listed, err)
	}
	_, err = w.sagas.ResumeSaga(w.ctx(), &treatyv1.ResumeSagaRequest{
		Name: created.GetName(), Decision: &treatyv1.Decision{Actor: "ada", Reason: "unlocked"},
		How: &treatyv1.ResumeSagaRequest_Retry_{Retry: &treatyv1.ResumeSagaRequest_Retry{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ended, err := w.sagas.WaitSaga(w.ctx(), &treatyv1.WaitSagaRequest{Name: created.GetName()})
	if err != nil || ended.GetState() != treatyv1.SagaState_SAGA_STATE_COMPENSATED {
		t.Errorf("ended %v, %v", ended, err)
	}
}

func TestPagesAndFiltersOnAStore(t *testing.T) {
	w := &system{t: t, store: filepath.Join(t.TempDir(), "treaty.db"), participants: newParticipants(t)}
	store, err := stores.Open(t.Context(), w.store, journal.Opening{})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ended := time.Now() // so that none is purged while the test pages through them
	var group []*journal.Entry
	for i := range 1000 {
		id, at := fmt.Sprintf("s%04d", (i*7919)%1000), began.Add(time.Duration(i/3)*time.Second)
		group = append(group, &journal.Entry{Saga: id, Turn: 1, Row: &journal.Row{
			ID: id, Definition: changeAddress, State: treatyv1.SagaState_SAGA_STATE_SUCCEEDED, CreateTime: at,
			UpdateTime: at, EndTime: ended,
			Labels: map[string]string{"customer": fmt.Sprintf("customers/%d", i%4)},
		}})
	}
	if err := store.Append(t.Context(), group); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	w.open()
	for filter, want := range map[string]int{
		"":                                     1000,
		`labels.customer = "customers/1"`:      250,
		`labels.customer != "customers/1"`:     750,
		`labels:customer`:                      1000,
		`labels:nope`:                          0,
		`state = RUNNING OR state = SUCCEEDED`: 1000,
		`NOT state = SUCCEEDED`:                0,
		`create_time < "2026-01-02T03:04:15Z"`: 30,
		`create_time >= "2026-01-02T03:04:15Z" AND labels.customer = "customers/0"`: 242,
		`definition > "acme.customer" AND definition < "acme.d"`:                    1000,
	} {
		seen := make(map[string]bool)
		request := &treatyv1.ListSagasRequest{PageSize: 99, Filter: filter}
		for {
			page, err := w.sagas.ListSagas(w.ctx(), request)
			if err != nil {
				t.Fatal(filter, err)
			}
			for _, s := range page.GetSagas() {
				seen[s.GetName()] = true
			}
			if request.PageToken = page.GetNextPageToken(); request.GetPageToken() == "" {
				break
			}
		}
		if len(seen) != want {
			t.Errorf("%s: %d sagas, want %d", filter, len(seen), want)
		}
	}
}

func TestCannotServe(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage.db")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("garbage", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	locked := filepath.Join(dir, "locked.db")
	other, err := stores.Open(t.Context(), locked, journal.Opening{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for name, test := range map[string]struct {
		options  []orchestrator.Option
		register func(saga.Registrar)
		address  string
		want     string
		is       error
	}{
		"port in use":      {address: taken.Addr().String(), want: "the port is in use"},
		"no such address":  {address: "192.0.2.1:0", want: "listening on 192.0.2.1:0"},
		"nonsense address": {address: "nonsense", want: "listening on nonsense"},
		"beyond loopback":  {address: "0.0.0.0:0", want: "other machines can reach it, and it has no TLS"},
		"store locked":     {options: []orchestrator.Option{orchestrator.WithStore(locked)}, is: journal.ErrLocked},
		"store corrupt":    {options: []orchestrator.Option{orchestrator.WithStore(garbage)}, is: journal.ErrCorrupt},
		"no directory": {options: []orchestrator.Option{orchestrator.WithStore(filepath.Join(dir, "nope", "a.db"))},
			want: "directory doesn't exist"},
		"registered twice": {register: func(r saga.Registrar) { registerSagas(r); registerSagas(r) },
			want: changeAddress + " is registered twice"},
		"unknown saga": {register: func(
			r saga.Registrar) {
			r.RegisterSaga(saga.Definition{Name: "acme.v1.Sagas/Do"})
		},
			want: "no linked contract defines it"},
		"far participant": {options: []orchestrator.Option{orchestrator.WithParticipant(customerService,
			"192.0.2.1:7")}, want: "isn't on this machine and has no TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := orchestrator.New(append([]orchestrator.Option{
				orchestrator.WithStore(filepath.Join(t.TempDir(), "treaty.db")),
				orchestrator.WithLogger(slog.New(slog.DiscardHandler)),
			}, test.options...)...)
			if err != nil {
				t.Fatal(err)
			}
			if test.register != nil {
				test.register(o)
			}
			if test.address == "" {
				test.address = "127.0.0.1:0"
			}
			err = o.ListenAndServe(t.Context(), test.address)
			if err == nil || !strings.Contains(err.Error(), test.want) || test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("error %v, want %q %v", err, test.want, test.is)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %v", err)
			}
		})
	}
}

// The API is served on a Unix socket, also where a process that was killed has left one. It isn't taken away from a
// process that runs.
func TestServesOnUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	if err := left.Close(); err != nil {
		t.Fatal(err)
	}
	w := unopened(t, newParticipants(t))
	w.address = "unix:" + path
	w.open()
	if w.ready.Address != w.address {
		t.Errorf("it serves on %q, want %q", w.ready.Address, w.address)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket's file: %v, %v", info.Mode(), err)
	}
	if _, err := w.acme.ChangeAddress(w.ctx(), move("one", "Main Street 1")); err != nil {
		t.Error(err)
	}
	other, err := orchestrator.New(orchestrator.WithStore(filepath.Join(t.TempDir(), "treaty.db")))
	if err != nil {
		t.Fatal(err)
	}
	if err := other.ListenAndServe(t.Context(), w.address); err == nil ||
		!strings.Contains(err.Error(), "the file is in use") {
		t.Errorf("a second one on the same socket: %v", err)
	}
	third, err := orchestrator.New(orchestrator.WithStore(filepath.Join(t.TempDir(), "treaty.db")))
	if err != nil {
		t.Fatal(err)
	}
	long := "unix:" + filepath.Join(t.TempDir(), strings.Repeat("x", 104))
	if err := third.ListenAndServe(t.Context(), long); err == nil ||
		!strings.Contains(err.Error(), "choose a shorter one") {
		t.Errorf("a long path: %v", err)
	}
	if _, err := w.acme.ChangeAddress(w.ctx(), move("two", "Main Street 1")); err != nil {
		t.Error(err)
	}
}

func TestWrongOptions(t *testing.T) {
	for name, test := range map[string]struct {
		option orchestrator.Option
		want   string
	}{
		"unknown service": {orchestrator.WithParticipant("acme.v1.Nope", "127.0.0.1:1"),
			`no linked contract has a service "acme.v1.Nope"`},
		"no target":         {orchestrator.WithParticipant(customerService, ""), "has no target"},
		"certificate alone": {orchestrator.WithTLS("cert.pem", ""), "both a certificate and its key"},
		"authority alone":   {orchestrator.WithClientCA("ca.pem"), "both a certificate and its key"},
		"no certificate":    {orchestrator.WithTLS("nope.pem", "nope.key"), "nope.pem"},
		"participant CA": {orchestrator.WithParticipantTLS(orchestrator.ParticipantTLS{CAFile: "nope.pem"}),
			"nope.pem"},
		"store of the future": {orchestrator.WithStore("mysql://localhost/treaty"), "name a SQLite file"},
		"negative retention":  {orchestrator.WithRetention(-time.Hour), "retention of sagas"},
		"of events":           {orchestrator.WithEventRetention(-time.Hour), "retention of events"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := orchestrator.New(test.option, orchestrator.WithParticipant(cardService, "127.0.0.1:1"))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
	_, err := orchestrator.New(orchestrator.WithParticipant(cardService, "127.0.0.1:1"),
		orchestrator.WithParticipant(cardService, "127.0.0.1:2"))
	if err == nil || !strings.Contains(err.Error(), "two targets") {
		t.Errorf("error %v", err)
	}
}

func TestServesOnce(t *testing.T) {
	o, err := orchestrator.New(orchestrator.WithStore(filepath.Join(t.TempDir(), "treaty.db")),
		orchestrator.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	listen := func() net.Listener {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return listener
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_ = o.Serve(ended, listen())
	again := listen()
	if err := o.Serve(t.Context(), again); err == nil || !strings.Contains(err.Error(), "served before") {
		t.Errorf("error %v", err)
	}
	if _, err := again.Accept(); err == nil {
		t.Error("the listener is open")
	}
}

var _ customerv1.CustomerServiceServer = (*participants)(nil)

// TestHealthFollowsTheStore keeps the store from being written for a while. Callers are kept away, and no supervisor is
// told to restart the process.
func TestHealthFollowsTheStore(t *testing.T) {
	t.Parallel()
	w := newSystem(t)
	const serving, notServing = healthv1.HealthCheckResponse_SERVING, healthv1.HealthCheckResponse_NOT_SERVING
	client := healthv1.NewHealthClient(w.conn)
	watch, err := client.Watch(w.ctx(), &healthv1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	becomes := func(want healthv1.HealthCheckResponse_ServingStatus) {
		t.Helper()
		got, err := watch.Recv()
		if err != nil || got.GetStatus() != want {
			t.Fatalf("it becomes %v (%v), want %v", got, err, want)
		}
	}
	becomes(serving)
	blocker, err := sqlite3.Open("file:" + w.store)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = blocker.Close() }()
	if err := errors.Join(blocker.BusyTimeout(10*time.Second), blocker.Exec("BEGIN IMMEDIATE")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.acme.ChangeAddress(w.ctx(), move("r-1", "1 Long Lane")); status.Code(err) != codes.Unavailable {
		t.Fatalf("a start while the store can't be written: %v", err)
	}
	becomes(notServing)
	for service, want := range map[string]healthv1.HealthCheckResponse_ServingStatus{
		"live": serving, "treaty.v1.SagaService": notServing, "acme.customer.v1.CustomerSagas": notServing,
	} {
		got, err := client.Check(w.ctx(), &healthv1.HealthCheckRequest{Service: service})
		if err != nil || got.GetStatus() != want {
			t.Errorf("%s is %v (%v), want %v", service, got, err, want)
		}
	}
	if err := blocker.Exec("ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	becomes(serving)
}
