package orchestrator_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/types/known/anypb"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/sealed"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// newKeys writes a file of keys and returns its path.
func newKeys(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys.json")
	if _, err := sealed.CreateKeys(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// secrets are what sagas and their participants say in everyLeak.
var secrets = []string{
	"1 Canary Street",     // a request, the requests of commands, a reply
	"canary in progress",  // a saga's progress
	"cards aren't posted", // the message of a refusal, which the saga ends with
	"a P.O. box",          // a detail of a refusal
	"canary in a reason",  // a decision
	"canary of register",  // an event
	"customers/ada",       // a label
}

// everyLeak runs sagas that leave every kind of payload in the store.
func everyLeak(t *testing.T, w *system) {
	t.Helper()
	if _, err := w.acme.ChangeAddress(w.ctx(), move("plain", "1 Canary Street")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.acme.ChangeAddress(w.ctx(), move("box", "P.O. 7")); err == nil {
		t.Fatal("a P.O. box was accepted")
	}
	release := w.participants.stall()
	request, err := anypb.New(move("cancelled", "1 Canary Street"))
	if err != nil {
		t.Fatal(err)
	}
	created, err := w.sagas.CreateSaga(w.ctx(), &treatyv1.CreateSagaRequest{
		Definition: changeAddress, Request: request, RequestId: "cancelled",
	})
	if err != nil {
		t.Fatal(err)
	}
	<-w.participants.held
	if _, err := w.sagas.CancelSaga(w.ctx(), &treatyv1.CancelSagaRequest{
		Name: created.GetName(), Decision: &treatyv1.Decision{Actor: "ann", Reason: "canary in a reason"},
	}); err != nil {
		t.Fatal(err)
	}
	release()
	event, err := anypb.New(&identityv1.ApplicantVerified{
		Applicant: "applicants/7", RegisterReference: "canary of register",
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := treatyv1.NewEventServiceClient(w.conn).PublishEvents(w.ctx(), &treatyv1.PublishEventsRequest{
		Events: []*treatyv1.PublishedEvent{{Id: "7", Source: "register", Data: event}},
	}); err != nil {
		t.Fatal(err)
	}
}

// leaks returns the secrets in the files of a directory.
func leaks(t *testing.T, dir string) map[string]bool {
	t.Helper()
	found := make(map[string]bool)
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(filepath.Join(dir, file.Name()))
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range secrets {
			if bytes.Contains(content, []byte(secret)) {
				t.Logf("%s has %q", file.Name(), secret)
				found[secret] = true
			}
		}
	}
	return found
}

func sealedSystem(t *testing.T, options ...orchestrator.Option) *system {
	t.Helper()
	w := unopened(t, newParticipants(t))
	w.options = options
	w.register = func(r saga.Registrar) {
		saga.Register(r, customerv1.CustomerSagas_ChangeAddress_FullMethodName,
			func(ctx saga.Context, in *customerv1.ChangeAddressSagaRequest) (*customerv1.AddressAgreed, error) {
				saga.SetProgress(ctx, &customerv1.Address{Lines: []string{"canary in progress"}})
				return changeTheAddress(ctx, in)
			})
	}
	w.open()
	return w
}

// TestStoreKeys looks for payloads of every kind in the files of a store with keys and of its backup, while it is open
// and afterwards. Without keys, all are there.
func TestStoreKeys(t *testing.T) {
	for name, options := range map[string][]orchestrator.Option{
		"with keys": {orchestrator.WithStoreKeys(newKeys(t))}, "without": nil,
	} {
		t.Run(name, func(t *testing.T) {
			w := sealedSystem(t, options...)
			everyLeak(t, w)
			want := 0
			if options == nil {
				want = len(secrets)
			}
			if found := leaks(t, filepath.Dir(w.store)); len(found) != want {
				t.Errorf("open: %d of %d payloads are in the files, want %d", len(found), len(secrets), want)
			}
			copied := backupOf(t, w.store)
			if found := leaks(t, filepath.Dir(copied)); len(found) != want {
				t.Errorf("backup: %d of %d payloads are in it, want %d", len(found), len(secrets), want)
			}
			list, err := w.sagas.ListSagas(w.ctx(), &treatyv1.ListSagasRequest{
				Filter: `labels.customer = "customers/ada"`,
			})
			if err != nil || len(list.GetSagas()) != 3 ||
				list.GetSagas()[0].GetLabels()["customer"] != "customers/ada" {
				t.Errorf("ListSagas by label = %v, %v; want three sagas with the label", list, err)
			}
			w.stop()
			if found := leaks(t, filepath.Dir(w.store)); len(found) != want {
				t.Errorf("closed: %d of %d payloads are in the files, want %d", len(found), len(secrets), want)
			}
		})
	}
}

func backupOf(t *testing.T, store string) (copied string) {
	t.Helper()
	copied = filepath.Join(t.TempDir(), "treaty.db")
	o, err := orchestrator.New(orchestrator.WithStore(store))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Backup(t.Context(), copied); err != nil {
		t.Fatal(err)
	}
	return copied
}

// TestSealedBackup restores a backup of a store with keys: with them, the sagas are there, and without, it isn't served
// or verified.
func TestSealedBackup(t *testing.T) {
	keys := orchestrator.WithStoreKeys(newKeys(t))
	w := sealedSystem(t, keys)
	everyLeak(t, w)
	w.stop()
	w.store = backupOf(t, w.store)
	restoring, err := orchestrator.New(orchestrator.WithStore(w.store),
		orchestrator.WithParticipant(customerService, w.participants.address),
		orchestrator.WithParticipant(cardService, w.participants.address))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := restoring.Restore(t.Context(), orchestrator.RestoreParams{
		Trusted: []string{customerService, cardService},
	}); err != nil {
		t.Fatal(err)
	}
	for name, options := range map[string][]orchestrator.Option{
		"without keys": nil, "with a missing file": {orchestrator.WithStoreKeys(filepath.Join(t.TempDir(), "none"))},
	} {
		options := append(options, orchestrator.WithStore(w.store), orchestrator.WithLogger(testkit.Logger(t)))
		o, err := orchestrator.New(options...)
		if err != nil {
			t.Fatal(err)
		}
		w.register(o)
		_, _, verifying := o.Verify(t.Context())
		serving := o.ListenAndServe(t.Context(), "127.0.0.1:0")
		for _, err := range []error{verifying, serving} {
			if !errors.Is(err, orchestrator.ErrStoreKey) && !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: %v, want ErrStoreKey or fs.ErrNotExist", name, err)
			}
		}
	}
	w.open()
	list, err := w.sagas.ListSagas(w.ctx(), &treatyv1.ListSagasRequest{Filter: `state = SUCCEEDED`})
	if err != nil || len(list.GetSagas()) != 1 || list.GetSagas()[0].GetLabels()["customer"] != "customers/ada" {
		t.Fatalf("ListSagas = %v, %v; want a saga with its label", list, err)
	}
	got, err := w.sagas.GetSaga(w.ctx(), &treatyv1.GetSagaRequest{Name: list.GetSagas()[0].GetName()})
	if err != nil || len(got.GetSteps()) != 2 {
		t.Errorf("GetSaga = %v, %v; want the saga with two steps", got, err)
	}
	w.stop()
	o, err := orchestrator.New(keys, orchestrator.WithStore(w.store))
	if err != nil {
		t.Fatal(err)
	}
	w.register(o)
	if findings, _, err := o.Verify(t.Context()); err != nil || len(findings) > 0 {
		t.Errorf("Verify with the keys = %v, %v; want nothing", findings, err)
	}
}
