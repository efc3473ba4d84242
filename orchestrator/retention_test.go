package orchestrator

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	_ "github.com/treatyhq/treaty/gen/acme/customer/v1"
	_ "github.com/treatyhq/treaty/gen/acme/identity/v1"
	_ "github.com/treatyhq/treaty/gen/bench/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// TestSagaIDRetention checks how short the retention of ids may be.
func TestSagaIDRetention(t *testing.T) {
	for retention, valid := range map[time.Duration]bool{
		0: true, MinSagaIDRetention: true, MinSagaIDRetention - 1: false, -1: false,
	} {
		_, err := New(WithSagaIDRetention(retention), WithLogger(slog.New(slog.DiscardHandler)))
		if (err == nil) != valid {
			t.Errorf("%v: got %v", retention, err)
		}
	}
}

// TestRetention checks how long sagas are kept: as their contract says, otherwise as the orchestrator is configured.
func TestRetention(t *testing.T) {
	o, err := New(WithRetention(time.Hour), WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	got := o.retention(map[string]machine.Code{
		"bench.v1.WorkSagas/Run": nil, "acme.customer.v1.ReviewSagas/ReviewCustomer": nil,
		"acme.identity.v1.IdentitySagas/VerifyApplicant": nil,
	})
	want := map[string]time.Duration{
		"bench.v1.WorkSagas/Run": time.Hour, "acme.customer.v1.ReviewSagas/ReviewCustomer": 30 * 24 * time.Hour,
		"acme.identity.v1.IdentitySagas/VerifyApplicant": time.Hour, // if it has no parent that may compensate it
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestRetentionThatDoesNotApply checks that the log names the definitions that --retention doesn't apply to.
func TestRetentionThatDoesNotApply(t *testing.T) {
	code := map[string]machine.Code{
		"bench.v1.WorkSagas/Run": nil, "acme.customer.v1.ReviewSagas/ReviewCustomer": nil,
	}
	for retention, want := range map[time.Duration]string{
		0:                "",
		30 * time.Second: "acme.customer.v1.ReviewSagas/ReviewCustomer 720h0m0s",
	} {
		var log strings.Builder
		o, err := New(WithRetention(retention), WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		if err != nil {
			t.Fatal(err)
		}
		o.retention(code)
		named := strings.Contains(log.String(), want)
		if lines := strings.Count(log.String(), "\n"); !named || (lines > 0) != (want != "") {
			t.Errorf("%v: the log should name %q:\n%s", retention, want, log.String())
		}
	}
}
