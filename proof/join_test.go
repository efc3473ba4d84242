//go:build proof

package proof

import (
	"bytes"
	"context"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	creditv1 "github.com/treatyhq/treaty/gen/acme/credit/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	notificationv1 "github.com/treatyhq/treaty/gen/acme/notification/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/services/demo/company"
)

// loyaltyService is a service that is in none of the contracts that the orchestrator is built with.
var loyaltyService = grpc.ServiceDesc{ServiceName: "acme.loyalty.v1.LoyaltyService", HandlerType: (*any)(nil)}

// loyalty is a service that joins Acme after the orchestrator was built. It stores the points of customers.
type loyalty struct {
	privacyv1.UnimplementedUserDataServiceServer

	mu       sync.Mutex
	points   map[string]int64
	commands []string // the ids of the received commands
}

// DeleteUserData deletes a customer's points.
func (l *loyalty) DeleteUserData(
	ctx context.Context, r *privacyv1.DeleteUserDataRequest) (*privacyv1.UserDataDeleted, error,
) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if command, ok := participant.FromContext(ctx); ok {
		l.commands = append(l.commands, command.CommandID)
	}
	deleted := &privacyv1.UserDataDeleted{}
	if points := l.points[r.GetCustomer()]; points > 0 {
		deleted.Erased = append(deleted.Erased, &privacyv1.ErasedRecords{Kind: "points", Deleted: points})
	}
	delete(l.points, r.GetCustomer())
	return deleted, nil
}

// asked returns the number of received commands.
func (l *loyalty) asked() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.commands)
}

// serve starts the service, which stops at the end of the test, and returns its address.
func (l *loyalty) serve(t *testing.T) string {
	t.Helper()
	server, err := participant.NewServer(participant.Options{Name: "loyalty"})
	if err != nil {
		t.Fatal(err)
	}
	server.RegisterService(&loyaltyService, l)
	privacyv1.RegisterUserDataServiceServer(server, l)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return server.Addr().String()
}

// TestNewServiceJoinsDeleteUserData adds a service with user data to a company. The service implements the contract,
// the orchestrator is restarted with another configuration, and the saga then calls the service, too. No saga changes
// and no program is rebuilt.
func TestNewServiceJoinsDeleteUserData(t *testing.T) {
	ctx := t.Context()
	acme := openQuick(t)
	_, customers := createCustomers(ctx, t, acme, "Leaver")
	newcomer := &loyalty{points: map[string]int64{customers[0]: 30, customers[1]: 40}}
	address := newcomer.serve(t)

	before := forget(ctx, t, acme, customers[0])
	if want := allServices(); !slices.Equal(participantsOf(before), want) {
		t.Errorf("before it joined, the saga called %q, want %q", participantsOf(before), want)
	}
	if n := newcomer.asked(); n != 0 {
		t.Errorf("the service received %d commands before it was configured", n)
	}

	if err := acme.Process(company.Orchestrator).Stop(); err != nil {
		t.Fatal(err)
	}
	restartWith(t, acme, loyaltyService.ServiceName+"="+address)
	after := forget(ctx, t, acme, customers[1])
	t.Logf("after %s joined, the saga called %q", loyaltyService.ServiceName, participantsOf(after))
	want := append(allServices(), loyaltyService.ServiceName)
	slices.Sort(want)
	if !slices.Equal(participantsOf(after), want) {
		t.Errorf("the saga called %q, want %q", participantsOf(after), want)
	}
	if n := newcomer.asked(); n != 1 {
		t.Errorf("the service received %d commands, want 1", n)
	}
	for _, asked := range after.GetServices() {
		if asked.GetParticipant() != loyaltyService.ServiceName {
			continue
		}
		erased := asked.GetErased()
		if len(erased) != 1 || erased[0].GetKind() != "points" || erased[0].GetDeleted() != 40 {
			t.Errorf("according to the saga's reply, the service erased %v, want 40 points", erased)
		}
	}
	journaled(ctx, t, acme, want)
}

// forget runs DeleteUserData for a customer.
func forget(ctx context.Context, t *testing.T, acme *company.Company, customer string) *privacyv1.UserForgotten {
	t.Helper()
	sagas := privacyv1.NewPrivacySagasClient(acme.Conn(company.Orchestrator))
	forgotten, err := sagas.DeleteUserData(ctx, &privacyv1.DeleteUserDataSagaRequest{
		RequestId: "forget-" + customer, Customer: customer,
	}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	return forgotten
}

func participantsOf(forgotten *privacyv1.UserForgotten) (names []string) {
	for _, asked := range forgotten.GetServices() {
		names = append(names, asked.GetParticipant())
	}
	return names
}

// services has the service of each participant of the company.
var services = map[string]string{
	company.Customer:     customerv1.CustomerService_ServiceDesc.ServiceName,
	company.Identity:     identityv1.IdentityService_ServiceDesc.ServiceName,
	company.Credit:       creditv1.CreditService_ServiceDesc.ServiceName,
	company.Card:         cardv1.CardService_ServiceDesc.ServiceName,
	company.Notification: notificationv1.NotificationService_ServiceDesc.ServiceName,
}

// allServices returns the sorted names of the company's services.
func allServices() (names []string) {
	for _, name := range company.Participants() {
		names = append(names, services[name])
	}
	slices.Sort(names)
	return names
}

// restartWith starts the company's orchestrator with additional participants: the same program on the same store and
// address. It stops at the end of the test.
func restartWith(t *testing.T, acme *company.Company, further ...string) {
	t.Helper()
	args := []string{"--store", acme.Store(), "--listen", acme.Process(company.Orchestrator).Address}
	takingPart := allServices()
	for _, name := range company.Participants() {
		args = append(args, "--participant", services[name]+"="+acme.Process(name).Address)
	}
	for _, participant := range further {
		args = append(args, "--participant", participant)
		service, _, _ := strings.Cut(participant, "=")
		takingPart = append(takingPart, service)
	}
	args = append(args, "--broadcast",
		privacyv1.UserDataService_ServiceDesc.ServiceName+"="+strings.Join(takingPart, ","))
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	said := new(bytes.Buffer)
	command := exec.CommandContext(ctx, filepath.Join(acme.Dir, "bin", "sagas"), args...)
	command.Stdout, command.Stderr = said, said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = command.Wait() // it was killed
		if t.Failed() {
			t.Logf("the output of the restarted orchestrator:\n%s", said)
		}
	})
}

// journaled checks the participants that the last DeleteUserData journaled.
func journaled(ctx context.Context, t *testing.T, acme *company.Company, want []string) {
	t.Helper()
	sagas, err := acme.Sagas(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range sagas {
		for _, r := range s.Records {
			if broadcast := r.GetRecord().GetBroadcastScheduled(); broadcast != nil {
				got = broadcast.GetParticipants()
			}
		}
		if s.View.GetState() != treatyv1.SagaState_SAGA_STATE_SUCCEEDED {
			t.Errorf("%s is %s", s.View.GetName(), s.View.GetState())
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the journal has the participants %q, want %q", got, want)
	}
}
