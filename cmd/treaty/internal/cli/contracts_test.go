package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"

	"github.com/treatyhq/treaty/cmd/treaty/internal/contracts"
	"github.com/treatyhq/treaty/cmd/treaty/internal/schema"
	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	creditv1 "github.com/treatyhq/treaty/gen/acme/credit/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	notificationv1 "github.com/treatyhq/treaty/gen/acme/notification/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/participant"
)

const (
	exampleSagas = "../../../../services/sagas"

	// exampleFile is what the sagas of the example company expect.
	exampleFile = exampleSagas + "/contracts.yaml"

	changeAddress = "acme.customer.v1.CustomerSagas/ChangeAddress"
)

// TestExport writes what the sagas of the example company expect, and compares it with the file in their folder.
func TestExport(t *testing.T) {
	file := filepath.Join(t.TempDir(), "contracts.yaml")
	if *update {
		file = exampleFile
	}
	got := run(t, setup{args: []string{"contracts", "export", exampleSagas, "--out", file}})
	const want = ": 6 sagas expect 21 methods of 6 services.\n"
	if got.code != 0 || got.stdout != file+want || got.stderr != "" {
		t.Fatalf("exit %d, %q, %q", got.code, got.stdout, got.stderr)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatalf("%v (-update writes it)", err)
	}
	if diff := cmp.Diff(string(kept), string(text)); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", exampleFile, diff)
	}
	printed := run(t, setup{args: []string{"contracts", "export", exampleSagas}})
	if printed.code != 0 || printed.stdout != string(text) {
		t.Errorf("without --out, exit %d:\n%s", printed.code, cmp.Diff(string(text), printed.stdout))
	}
}

// TestExportOfSagas narrows the output to some sagas.
func TestExportOfSagas(t *testing.T) {
	s := setup{args: []string{"contracts", "export", "services/sagas", "--saga", changeAddress}}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Join("..", "..", "..", ".."))
	got := run(t, s)
	t.Chdir(here)
	golden(t, "contracts_export", s, got)
}

// TestExportRefused has command lines and folders for which nothing is written.
func TestExportRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "contracts.yaml")
	for _, test := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"two folders", []string{"one", "two"}, 2, `doesn't take "two"`},
		{"JSON of YAML", []string{exampleSagas, "--json"}, 2, "--json needs --out"},
		{"no folder", []string{"nowhere", "-o", file}, 1, "nowhere is no folder"},
		{"no sagas", []string{"testdata", "-o", file}, 1, "no Go files"},
		{"unknown saga", []string{exampleSagas, "-o", file, "--saga", "a.B/C"}, 1, "no code for the saga a.B/C"},
		{"can't write", []string{exampleSagas, "-o", "contracts.go/x"}, 1, "writing contracts.go/x"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := run(t, setup{args: append([]string{"contracts", "export"}, test.args...)})
			if got.code != test.code || !strings.Contains(got.stderr, test.want) || got.stdout != "" {
				t.Errorf("exit %d, stdout %q, stderr %q; want exit %d and %q", got.code, got.stdout, got.stderr,
					test.code, test.want)
			}
		})
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a file was written")
	}
}

// TestExportJSON says in JSON what was written.
func TestExportJSON(t *testing.T) {
	file := filepath.Join(t.TempDir(), "contracts.yaml")
	got := run(t, setup{args: []string{"contracts", "export", exampleSagas, "--json", "--out", file,
		"--saga", changeAddress}})
	want := `{"file":"` + file + `","methods":4,"notes":null,"sagas":["` + changeAddress + `"],"services":2}` + "\n"
	if got.code != 0 || got.stdout != want {
		t.Errorf("exit %d, %s, %s; want %s", got.code, got.stdout, got.stderr, want)
	}
}

// TestExampleCompanyMeetsExpectations checks servers with the contracts of the example company's participants.
func TestExampleCompanyMeetsExpectations(t *testing.T) {
	text, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	file, err := contracts.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	checked := make(map[string]bool)
	for name, register := range map[string]func(grpc.ServiceRegistrar){
		"customer": func(r grpc.ServiceRegistrar) {
			customerv1.RegisterCustomerServiceServer(r, customerv1.UnimplementedCustomerServiceServer{})
		},
		"identity": func(r grpc.ServiceRegistrar) {
			identityv1.RegisterIdentityServiceServer(r, identityv1.UnimplementedIdentityServiceServer{})
		},
		"credit": func(r grpc.ServiceRegistrar) {
			creditv1.RegisterCreditServiceServer(r, creditv1.UnimplementedCreditServiceServer{})
		},
		"card": func(r grpc.ServiceRegistrar) {
			cardv1.RegisterCardServiceServer(r, cardv1.UnimplementedCardServiceServer{})
		},
		"notification": func(r grpc.ServiceRegistrar) {
			notificationv1.RegisterNotificationServiceServer(r, notificationv1.UnimplementedNotificationServiceServer{})
		},
	} {
		server, err := participant.NewServer(participant.Options{
			Name: name, Listen: "127.0.0.1:0", Logger: testkit.Logger(t),
		})
		if err != nil {
			t.Fatal(err)
		}
		register(server)
		privacyv1.RegisterUserDataServiceServer(server, privacyv1.UnimplementedUserDataServiceServer{})
		ctx, stop := context.WithCancel(t.Context())
		var serving sync.WaitGroup
		serving.Go(func() { _ = server.Serve(ctx) })
		t.Cleanup(func() {
			stop()
			serving.Wait()
		})
		types := schema.New(ctx, testkit.Dial(t, server.Addr().String()), 10*time.Second)
		t.Cleanup(types.Close)
		report, err := contracts.Check(types, file, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, finding := range append(report.Problems, report.Notes...) {
			t.Errorf("%s: %s", name, finding)
		}
		for _, service := range report.Checked {
			checked[string(service)] = true
		}
	}
	for service := range file.Services {
		if !checked[string(service)] {
			t.Errorf("no participant serves %s", service)
		}
	}
}
