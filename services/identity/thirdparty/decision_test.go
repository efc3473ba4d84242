package thirdparty

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// events collects what is published, and fails a given number of times first.
type events struct {
	failures int
	calls    int
	got      []*treatyv1.PublishedEvent
	at       []time.Duration
	began    time.Time
}

func (e *events) PublishEvents(
	_ context.Context, r *treatyv1.PublishEventsRequest, _ ...grpc.CallOption,
) (*treatyv1.PublishEventsResponse, error) {
	if e.calls++; e.calls <= e.failures {
		return nil, errors.New("nobody there")
	}
	for _, event := range r.GetEvents() {
		e.got, e.at = append(e.got, event), append(e.at, time.Since(e.began))
	}
	return &treatyv1.PublishEventsResponse{}, nil
}

// messages returns what was published, without the references.
func (e *events) messages(t *testing.T) (all []proto.Message) {
	t.Helper()
	for _, event := range e.got {
		message, err := event.GetData().UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		switch m := message.(type) {
		case *identityv1.ApplicantVerified:
			m.RegisterReference = strings.Repeat("R", min(len(m.GetRegisterReference()), 1))
		case *identityv1.ApplicantTurnedDown:
			m.RegisterReference = strings.Repeat("R", min(len(m.GetRegisterReference()), 1))
		}
		if event.GetSource() != Source || event.GetId() == "" {
			t.Errorf("the event %q of %q", event.GetId(), event.GetSource())
		}
		all = append(all, message)
	}
	return all
}

func put(t *testing.T, r *Register, key, passport, applicant string) {
	t.Helper()
	body := strings.NewReader(`{"name":"Ada","passport_number":"` + passport + `","applicant":"` + applicant + `"}`)
	call(t, r, httptest.NewRequest(http.MethodPut, "/registrations/"+key, body), http.StatusOK)
}

func withdraw(t *testing.T, r *Register, key string) {
	t.Helper()
	call(t, r, httptest.NewRequest(http.MethodDelete, "/registrations/"+key, nil), http.StatusNoContent)
}

func call(t *testing.T, r *Register, request *http.Request, want int) {
	t.Helper()
	answer := httptest.NewRecorder()
	if r.ServeHTTP(answer, request); answer.Code != want {
		t.Fatalf("%s %s: %d, want %d", request.Method, request.URL, answer.Code, want)
	}
}

// run opens the register, which continues if it was open before, and lets it decide while the test does something.
func run(t *testing.T, path string, e *events, do func(*Register)) {
	t.Helper()
	r, err := Open(t.Context(), Params{Path: path, DecideAfter: 3 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.Run(ctx, e)
	}()
	synctest.Wait()
	do(r)
	cancel()
	<-ended
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// TestDecisions registers all kinds of people, across a restart of the register, with an orchestrator that is
// unreachable at first.
func TestDecisions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "register.db")
	synctest.Test(t, func(t *testing.T) {
		e := &events{failures: 3, began: time.Now()}
		run(t, path, e, func(r *Register) {
			put(t, r, "good", "NP12345", "applicants/good")
			put(t, r, "good", "NP12345", "applicants/good")
			put(t, r, "gone", "NP12346", "applicants/gone")
			put(t, r, "mislaid", "ZZ12345", "applicants/mislaid")
			put(t, r, "nobody", "NP12347", "")
			<-time.After(time.Hour)
			put(t, r, "bad", "YY12345", "applicants/bad")
			withdraw(t, r, "gone")
		})
		if len(e.got) != 0 {
			t.Errorf("after an hour there is %v", e.got)
		}
		run(t, path, e, func(*Register) { <-time.After(24 * time.Hour) })
		run(t, path, e, func(*Register) { <-time.After(24 * time.Hour) })
		want := []proto.Message{
			&identityv1.ApplicantVerified{Applicant: "applicants/good", RegisterReference: "R"},
			&identityv1.ApplicantTurnedDown{Applicant: "applicants/bad", RegisterReference: "R",
				Reason: "the passport was issued to somebody else"},
		}
		if diff := cmp.Diff(want, e.messages(t), protocmp.Transform()); diff != "" {
			t.Errorf("published (-want +got):\n%s", diff)
		}
		// Three attempts failed: after 100, 200 and 400 ms more.
		if diff := cmp.Diff([]time.Duration{3*time.Hour + 700*time.Millisecond, 4 * time.Hour}, e.at); diff != "" {
			t.Errorf("when (-want +got):\n%s", diff)
		}
		for i, after := range []time.Duration{3 * time.Hour, 4 * time.Hour} {
			if got := e.got[i].GetTime().AsTime().Sub(e.began); got != after {
				t.Errorf("event %d happened after %v, want %v", i, got, after)
			}
		}
	})
}
