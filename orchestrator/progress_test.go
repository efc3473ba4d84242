package orchestrator

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// TestVerifyShowsProgress verifies a saga whose code goes on once the progress was shown.
func TestVerifyShowsProgress(t *testing.T) {
	store := filepath.Join(t.TempDir(), "treaty.db")
	sleepIn(t, store)
	for name, terminal := range map[string]bool{"log": false, "terminal": true} {
		t.Run(name, func(t *testing.T) {
			var out, errs bytes.Buffer
			shown := make(chan struct{})
			once := sync.OnceFunc(func() { close(shown) })
			line := "verifying " + store + ", 0 open sagas so far: "
			code := program{
				name: "acme", args: []string{"verify", "--store", store, "--turn-limit", "1m"}, stdout: &out,
				stderr: io.MultiWriter(&errs, writerFunc(func(text []byte) {
					if strings.HasPrefix(strings.TrimPrefix(string(text), "\r"), line[:40]) {
						once()
					}
				})),
				getenv: func(string) string { return "" }, terminal: terminal, patience: time.Millisecond,
				register: func(r saga.Registrar) {
					saga.Register(r, customerv1.CustomerSagas_ChangeAddress_FullMethodName, func(
						ctx saga.Context, _ *customerv1.ChangeAddressSagaRequest,
					) (*customerv1.AddressAgreed, error) {
						<-shown
						saga.Sleep(ctx, 24*time.Hour)
						return &customerv1.AddressAgreed{}, nil
					})
				},
			}.run(t.Context())
			if code != ExitOK || out.String() != "1 of 1 open saga can continue with this build\n" {
				t.Errorf("exit %d, stdout %q", code, out.String())
			}
			switch text := errs.String(); {
			case terminal && (!strings.HasPrefix(text, "\rverifying ") || !strings.HasSuffix(text, " \r")):
				t.Errorf("stderr %q; want a line that is erased", text)
			case !terminal && (!strings.HasPrefix(text, line) || strings.Contains(text, "\r")):
				t.Errorf("stderr %q; want %q", text, line)
			}
		})
	}
}

// sleepIn leaves a saga in a store that sleeps.
func sleepIn(t *testing.T, store string) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	lines, done := make(chan string, 1), make(chan int, 1)
	go func() {
		done <- program{
			name: "acme", args: []string{"--listen", "127.0.0.1:0", "--store", store}, stderr: io.Discard,
			stdout: writerFunc(func(line []byte) { lines <- string(line) }),
			getenv: func(string) string { return "" }, register: sleeper,
		}.run(ctx)
	}()
	conn := testkit.Dial(t, strings.Fields(<-lines)[3])
	request, err := anypb.New(&customerv1.ChangeAddressSagaRequest{Customer: "customers/ada"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := treatyv1.NewSagaServiceClient(conn).CreateSaga(t.Context(), &treatyv1.CreateSagaRequest{
		Definition: "acme.customer.v1.CustomerSagas/ChangeAddress", Request: request,
	}); err != nil {
		t.Fatal(err)
	}
	stop()
	if code := <-done; code != ExitOK {
		t.Fatalf("exit %d", code)
	}
}

func TestBackupShowsBytes(t *testing.T) {
	dir := t.TempDir()
	store, to := filepath.Join(dir, "treaty.db"), filepath.Join(dir, "backup.db")
	if got, want := copied(store, to), "backing "+store+" up to "+to; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for name, size := range map[string]int{store: 2_000_000, to + ".unfinished": 1_500_000} {
		if err := os.WriteFile(name, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := copied(store, to); !strings.HasSuffix(got, ", 1.5 MB of about 2.0 MB") {
		t.Errorf("%q doesn't say how far it is", got)
	}
}
