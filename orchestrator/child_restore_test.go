package orchestrator_test

import (
	"path/filepath"
	"strings"
	"testing"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator"
)

// awaitHealth waits until the orchestrator drives sagas.
func (w *system) awaitHealth() {
	w.t.Helper()
	watch, err := healthv1.NewHealthClient(w.conn).Watch(w.ctx(), new(healthv1.HealthCheckRequest))
	for err == nil {
		var health *healthv1.HealthCheckResponse
		if health, err = watch.Recv(); health.GetStatus() == healthv1.HealthCheckResponse_SERVING {
			return
		}
	}
	w.t.Fatal(err)
}

// TestRestoredParentAsksItsChild restores a backup of a parent's orchestrator. Another orchestrator runs the children:
// it describes itself and lists what it knows, so the parent is found among the lost sagas, and catches up with its
// child when it is started again.
func TestRestoredParentAsksItsChild(t *testing.T) {
	f := families(t)["at another one"](t)
	backup := filepath.Join(t.TempDir(), "backup.db")
	store, err := orchestrator.New(orchestrator.WithStore(f.parent.store))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Backup(t.Context(), backup); err != nil {
		t.Fatal(err)
	}
	if _, err := f.parent.acme.ChangeAddress(f.parent.ctx(), move("1", "fine")); err != nil {
		t.Fatal(err)
	}
	f.parent.stop()
	copied, err := orchestrator.New(orchestrator.WithStore(backup), orchestrator.WithLogger(testkit.Logger(t)),
		orchestrator.WithParticipant(customerService, f.parent.participants.address),
		orchestrator.WithParticipant(cardService, f.parent.participants.address))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := copied.Restore(t.Context(), orchestrator.RestoreParams{
		Trusted: []string{"acme.crad.v1.CardService"},
	}); err == nil || !strings.Contains(err.Error(), "acme.crad.v1.CardService") {
		t.Errorf("trusting a participant that isn't configured: %v", err)
	}
	if _, err := copied.Restore(t.Context(), orchestrator.RestoreParams{
		Trusted: []string{customerService, cardService},
	}); err != nil {
		t.Fatal(err)
	}
	f.parent.store = backup
	f.parent.open()
	f.parent.awaitHealth()
	lost, err := f.parent.sagas.ListLostSagas(f.parent.ctx(), &treatyv1.ListLostSagasRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if len(lost.GetLostSagas()) != 1 || len(lost.GetLostSagas()[0].GetCommands()) != 1 {
		t.Fatalf("lost: %v", lost)
	}
	command := lost.GetLostSagas()[0].GetCommands()[0]
	if children := f.children(t); command.GetMethod() != children[0].GetDefinition() ||
		command.GetVerdict() != "executed" {
		t.Errorf("lost command %v of the child %v", command, children)
	}
	agreed, err := f.parent.acme.ChangeAddress(f.parent.ctx(), move("1", "fine"))
	if err != nil || agreed.GetCustomer() != "applicants/ada" {
		t.Errorf("started again: %v, %v", agreed, err)
	}
	if calls := f.child.participants.seen(); calls != "ChangeAddress" {
		t.Errorf("called %s", calls)
	}
	if children := f.children(t); len(children) != 1 {
		t.Errorf("children: %v", children)
	}
}
