package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// compensated returns a saga whose third step was refused, with a crash in between.
func compensated(t *testing.T) (saga *treatyv1.Saga, events []event) {
	t.Helper()
	begin := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(ms int) *timestamppb.Timestamp {
		return timestamppb.New(begin.Add(time.Duration(ms) * time.Millisecond))
	}
	rejection, err := anypb.New(&cardv1.AddressNotServed{})
	if err != nil {
		t.Fatal(err)
	}
	return &treatyv1.Saga{
			Name: "sagas/s", CreateTime: at(0), EndTime: at(1000), State: treatyv1.SagaState_SAGA_STATE_COMPENSATED,
			Steps: []*treatyv1.Step{
				{
					Name: "sagas/s/steps/1", Method: "acme.customer.v1.CustomerService/ChangeAddress",
					State:        treatyv1.StepState_STEP_STATE_COMPENSATED,
					ScheduleTime: at(0), EndTime: at(4), CompensationScheduleTime: at(900),
					CompensationEndTime: at(1000),
					CompensationMethod:  "acme.customer.v1.CustomerService/RestoreAddress",
					Attempts:            &treatyv1.Attempts{Count: 2},
				},
				{
					Name: "sagas/s/steps/2", Method: "acme.identity.v1.IdentityService/RegisterApplicant",
					State:        treatyv1.StepState_STEP_STATE_DONE,
					ScheduleTime: at(4), EndTime: at(850), Attempts: &treatyv1.Attempts{Count: 3},
				},
				{
					Name: "sagas/s/steps/3", Method: "acme.card.v1.CardService/ChangePostalAddress",
					State:        treatyv1.StepState_STEP_STATE_REFUSED,
					ScheduleTime: at(850), EndTime: at(900),
					Failure: &treatyv1.Failure{Code: 9, Message: "cards are not posted to P.O. boxes",
						Details: []*anypb.Any{rejection}},
				},
			},
		}, []event{
			{begin.Add(100 * time.Millisecond), "✗ kill -9"},
			{begin.Add(300 * time.Millisecond), "✓ it is back"},
		}
}

func TestTimeline(t *testing.T) {
	saga, events := compensated(t)
	for name, p := range map[string]printer{
		"plain":    {width: plainWidth},
		"terminal": {width: 120, colour: true, bars: true},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			p.out = &out
			p.timeline(saga, events)
			golden(t, name+".golden", out.Bytes())
		})
	}
}

// whole returns a saga with branches, a broadcast, children and a sleep, whose last step is in flight.
func whole() (saga *treatyv1.Saga, events []event) {
	begin := time.Now().Add(-time.Hour)
	at := func(ms int) *timestamppb.Timestamp {
		return timestamppb.New(begin.Add(time.Duration(ms) * time.Millisecond))
	}
	step := func(path, method string, from, to int) *treatyv1.Step {
		return &treatyv1.Step{
			Name: "sagas/s/steps/" + path, Method: method, State: treatyv1.StepState_STEP_STATE_DONE,
			ScheduleTime: at(from), EndTime: at(to), Attempts: &treatyv1.Attempts{Count: 1},
		}
	}
	broadcast := step("2.1.1", "acme.privacy.v1.UserDataService/DeleteUserData", 400, 430)
	broadcast.Participant = "acme.card.v1.CardService"
	inFlight := step("3", "acme.notification.v1.NotificationService/SendReview", 700, 0)
	inFlight.EndTime, inFlight.State = nil, treatyv1.StepState_STEP_STATE_SCHEDULED
	return &treatyv1.Saga{
		Name: "sagas/s", CreateTime: at(0), State: treatyv1.SagaState_SAGA_STATE_RUNNING,
		Steps: []*treatyv1.Step{
			step("1.1.1", "acme.identity.v1.IdentitySagas/VerifyApplicant", 0, 300),
			step("1.2.1", "acme.identity.v1.IdentitySagas/VerifyApplicant", 0, 310),
			broadcast, inFlight,
		},
	}, []event{{begin.Add(400 * time.Millisecond), "☾ sleeps for 300 ms"}}
}

func TestTimelineOfARunningSaga(t *testing.T) {
	var out bytes.Buffer
	saga, events := whole()
	(&printer{out: &out, width: plainWidth}).timeline(saga, events)
	golden(t, "running.golden", out.Bytes())
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got), -update rewrites it:\n%s", file, diff)
	}
}

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		250 * time.Microsecond: "0.2 ms", 4 * time.Millisecond: "4.0 ms", 812 * time.Millisecond: "812 ms",
		61 * time.Second: "61.0 s",
	} {
		if got := short(d); got != want {
			t.Errorf("%s is %q, want %q", d, got, want)
		}
	}
}
