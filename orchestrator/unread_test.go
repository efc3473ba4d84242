package orchestrator_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator"
)

const (
	// unreadStore names the store in the environment of the process that TestUnreadStreams measures.
	unreadStore = "TREATY_TEST_UNREAD_STORE"

	// unreadMemory is how much the memory of the process may grow.
	unreadMemory = raceMemory * 50 << 20
)

// TestUnreadStreams opens streams of events that nobody reads, and measures what they cost the orchestrator, which is a
// process of its own. Others are answered meanwhile.
func TestUnreadStreams(t *testing.T) {
	if store := os.Getenv(unreadStore); store != "" {
		serveUntilStdinCloses(t, store)
		return
	}
	for name, test := range map[string]struct {
		events, bytes int // of each request to publish
		requests      int
		streams       int
		refused       bool // the last of the streams
	}{
		"60 streams of small events":    {1000, 100, 20, 60, false},
		"60 streams of large events":    {3, 1_000_000, 10, 60, false},
		"8,000 streams of large events": {3, 1_000_000, 10, 8000, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := unopened(t, newParticipants(t))
			w.open()
			for i := range test.requests {
				publishLarge(w, i, test.events, test.bytes)
			}
			w.stop()

			pid, address := serveApart(t, w.store)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // for busy machines
			defer cancel()
			reader := treatyv1.NewEventServiceClient(testkit.Dial(t, address))
			readAll := func() {
				stream, err := reader.StreamEvents(ctx, &treatyv1.StreamEventsRequest{})
				for range test.events * test.requests {
					if err == nil {
						_, err = stream.Recv()
					}
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			readAll() // what a stream that is read costs doesn't count
			before := residentPeak(t, pid)
			var last interface {
				Recv() (*treatyv1.StreamEventsResponse, error)
			}
			for i := range test.streams {
				if i%2000 == 0 {
					reader = treatyv1.NewEventServiceClient(testkit.Dial(t, address))
				}
				stream, err := reader.StreamEvents(ctx, &treatyv1.StreamEventsRequest{})
				if err != nil {
					t.Fatal(err)
				}
				if _, err = stream.Header(); i < 60 && err != nil {
					t.Fatal(err)
				}
				last = stream
			}
			sagas := treatyv1.NewSagaServiceClient(testkit.Dial(t, address))
			for range 20 {
				began := time.Now()
				if _, err := sagas.ListSagas(ctx, &treatyv1.ListSagasRequest{}); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("an answer to others took %v", took)
				}
			}
			if test.refused {
				_, err := last.Recv()
				if reason, _ := info(err); reason != treatyv1.ErrorReason_ERROR_REASON_LIMIT_REACHED {
					t.Errorf("stream %d: %v", test.streams, err)
				}
			} else {
				reader = treatyv1.NewEventServiceClient(testkit.Dial(t, address))
				readAll()
			}
			grown := residentPeak(t, pid) - before
			t.Logf("%d unread streams cost %d MiB, on top of %d", test.streams, grown>>20, before>>20)
			if grown > unreadMemory {
				t.Errorf("%d unread streams cost %d MiB, want at most %d", test.streams, grown>>20, unreadMemory>>20)
			}
		})
	}
}

// publishLarge publishes events of a number of bytes each.
func publishLarge(w *system, request, events, bytes int) {
	w.t.Helper()
	data, err := anypb.New(&identityv1.ApplicantVerified{
		Applicant: "applicants/1", RegisterReference: strings.Repeat("x", bytes),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	published := new(treatyv1.PublishEventsRequest)
	for i := range events {
		published.Events = append(published.Events, &treatyv1.PublishedEvent{
			Id: fmt.Sprintf("%d-%d", request, i), Source: "register", Data: data,
		})
	}
	if _, err := treatyv1.NewEventServiceClient(w.conn).PublishEvents(w.ctx(), published); err != nil {
		w.t.Fatal(err)
	}
}

// serveApart runs an orchestrator in a process of its own until the test ends.
func serveApart(t *testing.T, store string) (pid int, address string) {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary, "-test.run=^TestUnreadStreams$")
	cmd.Env = append(os.Environ(), unreadStore+"="+store)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if address, ok := strings.CutPrefix(lines.Text(), "serving on "); ok {
			return cmd.Process.Pid, address
		}
	}
	t.Fatal("the orchestrator doesn't serve")
	return 0, ""
}

// serveUntilStdinCloses is the process that serveApart runs.
func serveUntilStdinCloses(t *testing.T, store string) {
	o, err := orchestrator.New(orchestrator.WithStore(store),
		orchestrator.WithReady(func(r orchestrator.Ready) { fmt.Println("serving on " + r.Address) }))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	if err := o.ListenAndServe(ctx, "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
}

var peakLine = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// residentPeak returns the most memory that a process has had so far, in bytes. It skips the test where that can't be
// found out.
func residentPeak(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		t.Skip("the memory of a process is read from /proc")
	}
	found := peakLine.FindSubmatch(status)
	if found == nil {
		t.Skip("the system doesn't tell the peak of a process's memory")
	}
	kilobytes, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kilobytes << 10
}
