package proof

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	creditv1 "github.com/treatyhq/treaty/gen/acme/credit/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	"github.com/treatyhq/treaty/services/demo/company"
)

// TestParticipantsConform runs treaty conform against each running participant of the example company, the one in
// TypeScript too, with the file that lies beside its source. A kill and a restart are among the checks.
func TestParticipantsConform(t *testing.T) {
	if testing.Short() || runtime.GOOS != "linux" {
		t.Skip("it builds programs, and restarts processes by named pipes")
	}
	u := newNewUser(t)
	acme, err := company.Open(t.Context(), company.Params{
		Dir: t.TempDir(), RegisterLatency: time.Millisecond, InspectionTakes: 20 * time.Millisecond,
	})
	t.Cleanup(func() {
		if err := acme.Close(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(acme.NotificationAbout, "TypeScript") {
		t.Fatalf("the notification service must run in TypeScript here: %s", acme.NotificationAbout)
	}
	known := acmeNames(t, acme)
	for _, name := range company.Participants() {
		t.Run(name, func(t *testing.T) {
			file := conformFile(t, acme, name)
			report := filepath.Join(t.TempDir(), "report.xml")
			args := []string{"treaty", "conform", file, "--address", acme.Process(name).Address, "--junit", report}
			for key, value := range known {
				args = append(args, "--set", key+"="+value)
			}
			out, err := u.command(args...).CombinedOutput()
			if err != nil {
				t.Fatalf("treaty conform ends with %v:\n%s", err, out)
			}
			t.Log(string(out))
			if !regexp.MustCompile(`\n\d\d+ guarantees hold, 0 fail`).Match(out) {
				t.Errorf("too few guarantees hold")
			}
			if skipped := regexp.MustCompile(`(?m)^  restart +skipped`).Find(out); skipped != nil {
				t.Errorf("no restart was checked: %s", skipped)
			}
			text, err := os.ReadFile(report)
			if err != nil {
				t.Fatal(err)
			}
			if suites := junitSuites(t, text); !slices.Contains(suites, "participant") {
				t.Errorf("the JUnit report has the suites %q", suites)
			}
			meetsExpectations(t, u, acme.Process(name).Address)
		})
	}
}

// meetsExpectations compares a participant with what the sagas of the company expect, by its server reflection.
func meetsExpectations(t *testing.T, u *newUser, address string) {
	t.Helper()
	expectations, err := filepath.Abs(filepath.Join("..", "services", "sagas", "contracts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	out, err := u.command("treaty", "conform", "--against", expectations, "--address", address).CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "The participant meets what sagas expect of acme.") {
		t.Errorf("treaty conform --against ends with %v:\n%s", err, out)
	}
}

// acmeNames creates what the requests need, by calls without a saga.
func acmeNames(t *testing.T, acme *company.Company) map[string]string {
	t.Helper()
	address := &customerv1.Address{Lines: []string{"Oude Delft 1"}, PostalCode: "2611 AA", City: "Delft", Country: "NL"}
	customer, err := customerv1.NewCustomerServiceClient(acme.Conn(company.Customer)).CreateCustomer(t.Context(),
		&customerv1.CreateCustomerRequest{DisplayName: "Ada", Email: "ada@example.com", Address: address})
	if err != nil {
		t.Fatal(err)
	}
	check, err := creditv1.NewCreditServiceClient(acme.Conn(company.Credit)).CheckCredit(t.Context(),
		&creditv1.CheckCreditRequest{
			NationalId: "NL-1234", YearlyIncomeCents: 5_000_000, RequestedLimitCents: 100_000,
			Customer: customer.GetCustomer(),
		})
	if err != nil {
		t.Fatal(err)
	}
	card, err := cardv1.NewCardServiceClient(acme.Conn(company.Card)).IssueCard(t.Context(), &cardv1.IssueCardRequest{
		Customer: customer.GetCustomer(), Product: "classic", LimitCents: 100_000, AddressRevision: 1,
		Postal: &cardv1.Postal{Lines: address.GetLines(), PostalCode: "2611 AA", City: "Delft", Country: "NL"},
	})
	if err != nil {
		t.Fatal(err)
	}
	applicant, err := identityv1.NewIdentityServiceClient(acme.Conn(company.Identity)).RegisterApplicant(t.Context(),
		&identityv1.RegisterApplicantRequest{
			Customer: customer.GetCustomer(), DisplayName: "Ada", PassportNumber: "NP12345",
		})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"customer": customer.GetCustomer(), "check": check.GetCheck(), "card": card.GetCard(),
		"applicant": applicant.GetApplicant(),
	}
}

// conformFile copies a participant's file, with a program that restarts the participant: it asks this test over a named
// pipe, and waits for the answer on another one.
func conformFile(t *testing.T, acme *company.Company, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../services", name, "conform.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ask, answer := filepath.Join(dir, "ask"), filepath.Join(dir, "answer")
	for _, pipe := range []string{ask, answer} {
		if err := syscall.Mkfifo(pipe, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "conform.yaml")
	with := fmt.Sprintf("restart: [sh, -c, 'echo restart > ask; grep done answer']\n%s", text)
	if err := os.WriteFile(file, []byte(with), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go func() {
		for ctx.Err() == nil {
			if _, err := os.ReadFile(ask); err != nil {
				return
			}
			said := "done\n"
			if err := restart(ctx, acme, name); err != nil {
				said = err.Error()
			}
			if err := os.WriteFile(answer, []byte(said), 0o600); err != nil {
				return
			}
		}
	}()
	return file
}

// restart kills a participant and starts it again.
func restart(ctx context.Context, acme *company.Company, name string) error {
	if err := acme.Process(name).Kill(); err != nil {
		return err
	}
	if err := acme.Process(name).Start(); err != nil {
		return err
	}
	return acme.ReadyProcess(ctx, name)
}

// junitSuites returns the names of a report's test suites.
func junitSuites(t *testing.T, text []byte) []string {
	t.Helper()
	var report struct {
		Suites []struct {
			Name string `xml:"name,attr"`
		} `xml:"testsuite"`
	}
	if err := xml.NewDecoder(bytes.NewReader(text)).Decode(&report); err != nil {
		t.Fatalf("the JUnit report: %v\n%s", err, text)
	}
	var names []string
	for _, suite := range report.Suites {
		names = append(names, suite.Name)
	}
	return names
}
