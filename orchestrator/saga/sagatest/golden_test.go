package sagatest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	"github.com/treatyhq/treaty/gen/acme/card/v1/cardv1saga"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// golden explores a saga without pairs of faults, and returns the failures, and what is in its golden file.
func golden(t *testing.T, code move, file string, update bool) (failures []failure, text string) {
	t.Helper()
	e := newExploration(t, code.register, moves, toMove(), []Option{Golden(file), SingleFaults()})
	e.update = update
	failures = e.explore()
	content, err := os.ReadFile(file)
	if err != nil && !update {
		t.Log(err)
	}
	return failures, string(content)
}

// matrixOf returns the golden file of a saga.
func matrixOf(t *testing.T, code move) string {
	t.Helper()
	failures, text := golden(t, code, filepath.Join(t.TempDir(), "testdata", "saga.matrix.md"), true)
	if len(failures) > 0 {
		t.Fatal(textsOf(failures))
	}
	return text
}

// forgets is moveAll with a mistake: it succeeds although the postal address didn't change.
func forgets(ctx saga.Context, in *request) (*agreed, error) {
	if err := changeIn(ctx, in.GetCustomer(), "Delft"); err != nil {
		return nil, err
	}
	_ = changePostal(ctx, in.GetCustomer())
	return &agreed{}, nil
}

// movesOnly is moveAll without its second step.
func movesOnly(ctx saga.Context, in *request) (*agreed, error) {
	return &agreed{}, changeIn(ctx, in.GetCustomer(), "Delft")
}

// swapped is moveAll in the other order.
func swapped(ctx saga.Context, in *request) (*agreed, error) {
	if err := changePostal(ctx, in.GetCustomer()); err != nil {
		return nil, err
	}
	return &agreed{}, changeIn(ctx, in.GetCustomer(), "Delft")
}

// TestGoldenShowsChangedUndo compares sagas whose undo paths have changed with the golden file of the saga before.
func TestGoldenShowsChangedUndo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "testdata", "saga.matrix.md")
	if failures, _ := golden(t, moveAll, file, true); len(failures) > 0 {
		t.Fatal(textsOf(failures))
	}
	if failures, _ := golden(t, moveAll, file, false); len(failures) > 0 {
		t.Errorf("the same saga differs:\n%s", textsOf(failures))
	}
	for _, test := range []struct {
		name string
		code move
		want []string
	}{
		{
			name: "a swallowed refusal", code: forgets,
			want: []string{"- | 2 ChangePostalAddress | refused: AddressNotServed; refused without details | Restore",
				"+ | 2 ChangePostalAddress | refused: AddressNotServed; refused without details | — | SUCCEEDED"},
		},
		{
			name: "a removed step", code: movesOnly,
			want: []string{"- | 2 ChangePostalAddress | given up, executed | RestorePostalAddress → RestoreAddress |"},
		},
		{
			name: "another order", code: swapped,
			want: []string{"-   n1[\"ChangeAddress<br/>↩ RestoreAddress\"]",
				"- | 2 ChangePostalAddress | refused: AddressNotServed; refused without details | RestoreAddress |"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			failures, _ := golden(t, test.code, file, false)
			want := append(test.want, "the failure matrix of acme.customer.v1.CustomerSagas/ChangeAddress differs from",
				"if that is intended, run\n\tgo test -run '^TestGoldenShowsChangedUndo$/^", " -sagatest.update")
			if find(failures, want) == nil {
				t.Errorf("no failure has all of %q:\n%s", want, textsOf(failures))
			}
		})
	}
}

// TestBadGolden explores with golden files that can't be compared or written.
func TestBadGolden(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("another saga\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	below := filepath.Join(plain, "saga.matrix.md")
	for _, test := range []struct {
		name, file string
		update     bool
		want       []string
	}{
		{
			name: "missing", file: filepath.Join(dir, "missing.md"),
			want: []string{"there is no failure matrix of acme.customer.v1.CustomerSagas/ChangeAddress in ",
				"missing.md: to write it, run\n\tgo test -run '^TestBadGolden$/^missing$' -sagatest.update"},
		},
		{
			name: "stale", file: plain,
			want: []string{"differs from " + plain, "- another saga", "lines more",
				"go test -run '^TestBadGolden$/^stale$' -sagatest.update"},
		},
		{
			name: "unreadable", file: dir,
			want: []string{"reading the failure matrix of ", " from " + dir, "is a directory"},
		},
		{
			name: "unwritable", file: below, update: true,
			want: []string{"writing the failure matrix of ", " to " + below, "not a directory"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			failures, _ := golden(t, moveAll, test.file, test.update)
			if find(failures, test.want) == nil {
				t.Errorf("no failure has all of %q:\n%s", test.want, textsOf(failures))
			}
		})
	}
}

// TestGoldenIsStable writes the golden file of a saga with parallel branches again and again.
func TestGoldenIsStable(t *testing.T) {
	want := matrixOf(t, issuesToAll)
	for range 5 {
		if got := matrixOf(t, issuesToAll); got != want {
			t.Fatalf("the same saga differs:\n%s", strings.Join(differences(want, got), "\n"))
		}
	}
}

// issuesToAll moves three customers in a scope, two at a time, or else one of them; then it waits, and issues a card.
func issuesToAll(ctx saga.Context, in *request) (*agreed, error) {
	customers := []string{"customers/a", "customers/b", "customers/c"}
	err := saga.Try(ctx, func(ctx saga.Context) error {
		return saga.Each(ctx, customers, func(ctx saga.Context, customer string) error {
			if err := changeIn(ctx, customer, "Delft"); err != nil {
				return err
			}
			return changePostal(ctx, customer)
		}, saga.AtMost(2))
	}, saga.Within(time.Hour))
	if _, unserved := saga.Rejection[*cardv1.AddressNotServed](err); unserved {
		err = changeIn(ctx, in.GetCustomer(), "Delft")
	}
	if err != nil {
		return nil, err
	}
	saga.Sleep(ctx, 90*time.Minute)
	_, err = cardv1saga.IssueCard(ctx, &cardv1.IssueCardRequest{})
	return &agreed{}, err
}

// TestGoldenShowsBranches looks for what a saga with branches, a scope, a wait and a pivot has in its golden file.
func TestGoldenShowsBranches(t *testing.T) {
	text := matrixOf(t, issuesToAll)
	for _, want := range []string{
		`subgraph n1["a scope, for 1h at most"]`, `subgraph n2["3 × in parallel"]`,
		`n3["ChangeAddress<br/>↩ RestoreAddress"]`, `n5{{"sleeps 1h30m"}}`, `n7["IssueCard"]:::pivot`, "n1 --> n5",
		`n1 -.->|"undone: AddressNotServed"| n6`, "n6 -.-> n5",
		"| 1.1.1.1.2 ChangePostalAddress | refused: AddressNotServed | ",
		"SUCCEEDED, with ChangeAddress (2), without ChangePostalAddress (1.1.1.3.2) | — |",
		"| 1.1.1.1.2 ChangePostalAddress | given up, not executed | RestorePostalAddress (null) + ",
		"; 2 sleeps 1h30m | 3 × RestorePostalAddress → 3 × RestoreAddress | COMPENSATED | CANCELLED |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q isn't in the golden file", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// TestGoldenSaysSuspended describes a run whose saga was suspended before it went on.
func TestGoldenSaysSuspended(t *testing.T) {
	first := outcome{
		state: treatyv1.SagaState_SAGA_STATE_SUCCEEDED, story: &story{view: new(treatyv1.Saga)},
	}
	out := first
	out.faults = []fault{{place: place{atAction, "2"}, kind: givenUp}}
	out.story = &story{
		view: new(treatyv1.Saga), resumed: []treatyv1.SuspensionReason{
			treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_PENDING,
			treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_UNKNOWN,
		},
	}
	want := "SUSPENDED: PIVOT_PENDING; when resumed, SUSPENDED: PIVOT_UNKNOWN; when resumed, SUCCEEDED"
	if got := resultOf(out, first); got.ends != want {
		t.Errorf("it ends as %q, want %q", got.ends, want)
	}
}

// TestTravelTimes compares how long the commands of parallel branches travel.
func TestTravelTimes(t *testing.T) {
	seen := make(map[time.Duration]string)
	for a := 1; a <= 3; a++ {
		for b := 1; b <= 3; b++ {
			path := fmt.Sprintf("1.%d.1.%d.1", a, b)
			took := travelTime(place{atAction, path})
			if other := seen[took]; other != "" || took < travelBase || took > 10*travelBase {
				t.Errorf("the command at %s travels for %s, as that at %q", path, took, other)
			}
			seen[took] = path
		}
	}
}
