package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/participant/inbox"
	"github.com/treatyhq/treaty/participant/participanttest"
	"github.com/treatyhq/treaty/services/identity/thirdparty"
	"github.com/treatyhq/treaty/services/internal/sqlitedb"
)

// company is the identity service with its third party, whose answers can get lost.
type company struct {
	identityv1.IdentityServiceClient

	privacy  privacyv1.UserDataServiceClient
	register string
	lose     atomic.Bool
	// called after the register has done something, before it answers
	done atomic.Pointer[func(method string)]
}

func start(t *testing.T) *company {
	t.Helper()
	directory := t.TempDir()
	third, err := thirdparty.Open(t.Context(), thirdparty.Params{Path: filepath.Join(directory, "register.db")})
	if err != nil {
		t.Fatal(err)
	}
	c := &company{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !c.lose.Load() {
			third.ServeHTTP(w, r)
			if done := c.done.Load(); done != nil {
				(*done)(r.Method)
			}
			return
		}
		third.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(func() {
		server.Close()
		if err := third.Close(); err != nil {
			t.Error(err)
		}
	})
	c.register = server.URL
	params := sqlitedb.Params{Path: filepath.Join(directory, "identity.db"), Migrations: migrations}
	opened, err := sqlitedb.OpenStore(t.Context(), params, inbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	store := &store{opened}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	register, err := newRegister(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	connection := participanttest.Serve(t, func(r grpc.ServiceRegistrar) {
		service := &service{store: store, register: register, inspector: newInspector(store, nil, 0)}
		identityv1.RegisterIdentityServiceServer(r, service)
		privacyv1.RegisterUserDataServiceServer(r, service)
	})
	c.IdentityServiceClient, c.privacy = identityv1.NewIdentityServiceClient(connection),
		privacyv1.NewUserDataServiceClient(connection)
	return c
}

// holds returns how many applicants the service stores and how many registrations the third party stores.
func (c *company) holds(t *testing.T) (got [2]int) {
	t.Helper()
	list, err := c.ListApplicants(t.Context(), &identityv1.ListApplicantsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Get(c.register + "/registrations")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var all thirdparty.Registrations
	if err := json.NewDecoder(response.Body).Decode(&all); err != nil {
		t.Fatal(err)
	}
	got[0] = len(list.GetApplicants())
	for _, r := range all.Registrations {
		if !r.Withdrawn {
			got[1]++
		}
	}
	return got
}

func ada() *identityv1.RegisterApplicantRequest {
	return &identityv1.RegisterApplicantRequest{Customer: "customers/1", DisplayName: "Ada", PassportNumber: "NP12345"}
}

// TestSequences checks after each sequence that the service and the third party agree.
func TestSequences(t *testing.T) {
	const action, lost, undo = "action", "action, the register's answer is lost", "undo"
	for _, test := range []struct {
		name  string
		calls []string
		codes []codes.Code
		want  int
	}{
		{"registered", []string{action, action}, []codes.Code{codes.OK, codes.OK}, 1},
		{"retried", []string{lost, lost, action}, []codes.Code{codes.Unavailable, codes.Unavailable, codes.OK}, 1},
		{"withdrawn", []string{action, undo, undo}, []codes.Code{codes.OK, codes.OK, codes.OK}, 0},
		{"late duplicate", []string{action, undo, action}, []codes.Code{codes.OK, codes.OK, codes.FailedPrecondition},
			0},
		{"given up", []string{lost, undo}, []codes.Code{codes.Unavailable, codes.OK}, 0},
		{"given up, late action", []string{lost, undo, action, undo}, []codes.Code{codes.Unavailable, codes.OK,
			codes.FailedPrecondition, codes.OK}, 0},
		{"undo without action", []string{undo, action}, []codes.Code{codes.OK, codes.FailedPrecondition}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := start(t)
			for i, call := range test.calls {
				var err error
				c.lose.Store(call == lost)
				if call == undo {
					_, err = c.WithdrawApplicant(participanttest.Compensation(t.Context(), "s", 2),
						&identityv1.WithdrawApplicantRequest{Action: ada()})
				} else {
					_, err = c.RegisterApplicant(participanttest.Action(t.Context(), "s", 2), ada())
				}
				if status.Code(err) != test.codes[i] {
					t.Errorf("call %d, %s: %v, want %v", i, call, err, test.codes[i])
				}
			}
			c.lose.Store(false)
			if diff := cmp.Diff([2]int{test.want, test.want}, c.holds(t)); diff != "" {
				t.Errorf("applicants and registrations (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	c := start(t)
	rejected := ada()
	rejected.PassportNumber = "XX12345"
	_, err := c.RegisterApplicant(participanttest.Action(t.Context(), "s", 2), rejected)
	want := []any{&identityv1.ApplicantRejected{Reason: "the passport is reported as lost or stolen"}}
	if s := status.Convert(err); s.Code() != codes.FailedPrecondition {
		t.Errorf("got %v, want FAILED_PRECONDITION", err)
	} else if diff := cmp.Diff(want, s.Details(), protocmp.Transform()); diff != "" {
		t.Errorf("rejection (-want +got):\n%s", diff)
	}
	for name, request := range map[string]*identityv1.RegisterApplicantRequest{
		"customer": {DisplayName: "Ada", PassportNumber: "NP12345"},
		"name":     {Customer: "customers/1", PassportNumber: "NP12345"},
		"passport": {Customer: "customers/1", DisplayName: "Ada", PassportNumber: "no"},
	} {
		if _, err := c.RegisterApplicant(t.Context(), request); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v, want INVALID_ARGUMENT", name, err)
		}
	}
	if got := c.holds(t); got != [2]int{} {
		t.Errorf("applicants and registrations %v, want none", got)
	}
	if _, err := c.GetApplicant(t.Context(),
		&identityv1.GetApplicantRequest{Name: "applicants/none"}); status.Code(err) != codes.NotFound {
		t.Errorf("an applicant that doesn't exist: %v, want NOT_FOUND", err)
	}
	for _, url := range []string{"", "localhost:80", "ftp://host"} {
		if _, err := newRegister(url); err == nil {
			t.Errorf("register URL %q is taken", url)
		}
	}
}

// TestDeleteUserData deletes an applicant here and at the third party, whose answer gets lost once.
func TestDeleteUserData(t *testing.T) {
	c := start(t)
	if _, err := c.RegisterApplicant(participanttest.Action(t.Context(), "s", 2), ada()); err != nil {
		t.Fatal(err)
	}
	other := ada()
	other.Customer = "customers/2"
	if _, err := c.RegisterApplicant(participanttest.Action(t.Context(), "other", 2), other); err != nil {
		t.Fatal(err)
	}
	deletion := &privacyv1.DeleteUserDataRequest{Customer: "customers/1"}
	c.lose.Store(true)
	if _, err := c.privacy.DeleteUserData(participanttest.Action(t.Context(), "d", 1),
		deletion); status.Code(err) != codes.Unavailable {
		t.Errorf("with the third party's answer lost: %v, want UNAVAILABLE", err)
	}
	c.lose.Store(false)
	want := &privacyv1.UserDataDeleted{Erased: []*privacyv1.ErasedRecords{{Kind: "applicants", Deleted: 1}}}
	for range 2 {
		got, err := c.privacy.DeleteUserData(participanttest.Action(t.Context(), "d", 1), deletion)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("deleted (-want +got):\n%s", diff)
		}
	}
	if got := c.holds(t); got != [2]int{1, 1} {
		t.Errorf("applicants and registrations %v, want the other person's", got)
	}
	if _, err := c.privacy.DeleteUserData(t.Context(),
		&privacyv1.DeleteUserDataRequest{}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("deleting nobody: %v, want INVALID_ARGUMENT", err)
	}
}

// TestForgottenCustomerIsNotRegistered registers a person who is forgotten before or during the registration.
// Afterwards, neither the service nor the third party stores the person.
func TestForgottenCustomerIsNotRegistered(t *testing.T) {
	register := func(t *testing.T, c *company) {
		t.Helper()
		if _, err := c.RegisterApplicant(participanttest.Action(t.Context(), "s", 2),
			ada()); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("the registration: %v, want FAILED_PRECONDITION", err)
		}
	}
	forget := func(t *testing.T, c *company) {
		t.Helper()
		if _, err := c.privacy.DeleteUserData(participanttest.Action(t.Context(), "d", 1),
			&privacyv1.DeleteUserDataRequest{Customer: "customers/1"}); err != nil {
			t.Errorf("the deletion: %v", err)
		}
	}
	// once calls a function when the register has first done something of a kind.
	once := func(c *company, method string, do func()) {
		done := func(m string) {
			if m == method {
				c.done.Store(nil)
				do()
			}
		}
		c.done.Store(&done)
	}
	for name, run := range map[string]func(*testing.T, *company){
		"after the deletion": func(t *testing.T, c *company) {
			forget(t, c)
			register(t, c)
		},
		"during the deletion": func(t *testing.T, c *company) {
			if _, err := c.RegisterApplicant(participanttest.Action(t.Context(), "before", 2), ada()); err != nil {
				t.Fatal(err)
			}
			once(c, http.MethodDelete, func() { register(t, c) })
			forget(t, c)
		},
		"before the deletion at the register, after it here": func(t *testing.T, c *company) {
			once(c, http.MethodPut, func() { forget(t, c) })
			register(t, c)
			register(t, c)
		},
		"the same, and the register's answer to the withdrawal is lost": func(t *testing.T, c *company) {
			once(c, http.MethodPut, func() {
				forget(t, c)
				c.lose.Store(true)
			})
			if _, err := c.RegisterApplicant(participanttest.Action(t.Context(), "s", 2),
				ada()); status.Code(err) != codes.Unavailable {
				t.Errorf("the registration: %v, want UNAVAILABLE", err)
			}
			c.lose.Store(false)
			register(t, c)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t)
			run(t, c)
			if got := c.holds(t); got != [2]int{} {
				t.Errorf("applicants and registrations %v, want none", got)
			}
		})
	}
}
