package contract_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
)

func TestCatalogFindsChildSagas(t *testing.T) {
	file := mustCompile(t, "testdata/valid", "language")
	if violations := contract.Check(file); violations != nil {
		t.Fatalf("violations: %v", violations)
	}
	catalog := mustLoad(t, file)
	type row struct {
		Kind         treatyv1.CommandKind
		Compensation string
		Retention    time.Duration
	}
	const service = "acme.family.v1.FamilySagas/"
	want := map[string]row{
		service + "Join":  {treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE, service + "UndoJoin 4,5", time.Minute},
		service + "Move":  {Kind: treatyv1.CommandKind_COMMAND_KIND_PIVOT},
		service + "Leave": {},
	}
	got := make(map[string]row)
	for saga := range catalog.SagaDefinitions() {
		r := row{Kind: saga.Kind, Retention: saga.Retention}
		if compensation := saga.Compensation; compensation != nil {
			r.Compensation = fmt.Sprintf("%s %d,%d", compensation.Method, compensation.ActionField,
				compensation.ReplyField)
		}
		got[saga.Definition] = r
		command, is := catalog.Command(saga.Definition)
		if is != (saga.Kind != treatyv1.CommandKind_COMMAND_KIND_UNSPECIFIED) || is && command.Kind != saga.Kind {
			t.Errorf("%s is the command %+v, but its kind is %s", saga.Definition, command, saga.Kind)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sagas differ (-want +got):\n%s", diff)
	}

	for method, want := range map[string]string{
		service + "UndoJoin":                    service + "Join",
		"acme.family.v1.PrivacyService/Discard": "", // of a participant's command
		service + "Join":                        "",
		service + "Leave":                       "",
	} {
		saga, ok := catalog.CompensatedSaga(method)
		if ok != (want != "") || ok && saga.Definition != want {
			t.Errorf("CompensatedSaga(%q) = %v, %t; want %q", method, saga, ok, want)
		}
	}
	alone, err := contract.SagaDefinitionOf(file.Services().ByName("FamilySagas").Methods().ByName("Join"))
	if err != nil || alone.Compensation == nil || alone.Compensation.Timeout != 2*time.Second {
		t.Errorf("SagaDefinitionOf(Join) = %+v, %v; want its compensation with a timeout of 2s", alone, err)
	}
}

func TestCallConfigsOfTheLanguage(t *testing.T) {
	catalog := mustLoad(t, mustCompile(t, "testdata/valid", "language"))
	type row struct {
		Broadcast, OfSaga, SafeRefusals bool
		CompleteWithin                  time.Duration
	}
	got := make(map[string]row)
	for command := range catalog.Commands() {
		got[command.Method] = row{
			command.Broadcast, command.OfSaga, command.SafeRefusals, command.CompleteWithin,
		}
	}
	for compensation := range catalog.Compensations() {
		got[compensation.Method] = row{
			OfSaga: compensation.OfSaga, SafeRefusals: compensation.SafeRefusals,
			CompleteWithin: compensation.CompleteWithin,
		}
	}
	want := map[string]row{
		"acme.family.v1.PrivacyService/Forget":  {Broadcast: true},
		"acme.family.v1.PrivacyService/Inspect": {SafeRefusals: true, CompleteWithin: 7 * 24 * time.Hour},
		"acme.family.v1.PrivacyService/Discard": {SafeRefusals: true}, // a compensation inherits no limit
		"acme.family.v1.FamilySagas/Join":       {OfSaga: true, CompleteWithin: contract.MaxCompleteWithin},
		"acme.family.v1.FamilySagas/UndoJoin":   {OfSaga: true},
		"acme.family.v1.FamilySagas/Move":       {OfSaga: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("calls differ (-want +got):\n%s", diff)
	}
}

func TestCatalogFindsEvents(t *testing.T) {
	catalog := mustLoad(t, mustCompile(t, "testdata/valid", "language"))
	got := make(map[protoreflect.FullName]protoreflect.Name)
	for event := range catalog.EventTypes() {
		got[event.Type] = event.Key.Name()
		if found, ok := catalog.EventType(string(event.Type)); !ok || found != event ||
			event.Message.FullName() != event.Type {
			t.Errorf("EventType(%q) = %v, %t; want %v", event.Type, found, ok, event)
		}
	}
	want := map[protoreflect.FullName]protoreflect.Name{
		"acme.family.v1.Inspected": "person", "acme.family.v1.Inspected.Page": "page",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events differ (-want +got):\n%s", diff)
	}
	for _, name := range []string{"", "acme.family.v1.Joined", "type.googleapis.com/acme.family.v1.Inspected"} {
		if event, ok := catalog.EventType(name); ok {
			t.Errorf("EventType(%q) = %v, want none", name, event)
		}
	}
	file := mustCompile(t, "testdata/valid", "language")
	if event, err := contract.EventTypeOf(file.Messages().ByName("Joined")); event != nil || err != nil {
		t.Errorf("EventTypeOf(Joined) = %v, %v; want nil, nil", event, err)
	}
	_, err := contract.EventTypeOf(mustCompile(t, rulesDir, "event_key_type").Messages().Get(0))
	if violation, ok := errors.AsType[contract.Violation](err); !ok || violation.Rule != "EVENT_KEY_TYPE" {
		t.Errorf("EventTypeOf = %v, want a violation of EVENT_KEY_TYPE", err)
	}
	foreign := mustCompile(t, "testdata/valid", "foreign")
	for i := range foreign.Messages().Len() {
		if event, err := contract.EventTypeOf(foreign.Messages().Get(i)); event != nil || err != nil {
			t.Errorf("EventTypeOf(%s) = %v, %v; want nil, nil", foreign.Messages().Get(i).FullName(), event, err)
		}
	}
}

// inspected is the event of testdata/valid/language.proto, whose key is field 1000.
func inspected(t testing.TB) *contract.EventType {
	t.Helper()
	event, err := contract.EventTypeOf(mustCompile(t, "testdata/valid", "language").Messages().ByName("Inspected"))
	if err != nil {
		t.Fatal(err)
	}
	return event
}

const keyNumber = 1000

func TestSubject(t *testing.T) {
	key := func(b []byte, value string) []byte {
		return protowire.AppendString(protowire.AppendTag(b, keyNumber, protowire.BytesType), value)
	}
	number := func(b []byte) []byte {
		return protowire.AppendVarint(protowire.AppendTag(b, 1, protowire.VarintType), 7)
	}
	event := inspected(t)
	for name, test := range map[string]struct {
		data []byte
		want string
		err  error
	}{
		"alone":           {data: key(nil, "persons/7"), want: "persons/7"},
		"after others":    {data: key(number(nil), "persons/7"), want: "persons/7"},
		"before others":   {data: number(key(nil, "persons/7")), want: "persons/7"},
		"last one wins":   {data: key(number(key(nil, "persons/7")), "persons/8"), want: "persons/8"},
		"emptied at last": {data: key(key(nil, "persons/7"), ""), err: contract.ErrEmptyKey},
		"empty":           {data: key(nil, ""), err: contract.ErrEmptyKey},
		"absent":          {data: number(nil), err: contract.ErrEmptyKey},
		"no data":         {err: contract.ErrEmptyKey},
		"in a group": {data: protowire.AppendTag(key(protowire.AppendTag(nil, 5, protowire.StartGroupType),
			"persons/7"), 5, protowire.EndGroupType), err: contract.ErrEmptyKey},
		"as another type": {data: protowire.AppendVarint(protowire.AppendTag(nil, keyNumber, protowire.VarintType),
			7), err: contract.ErrEmptyKey},
		"not UTF-8":         {data: key(nil, "\xff"), err: contract.ErrMalformed},
		"cut in the tag":    {data: key(nil, "persons/7")[:1], err: contract.ErrMalformed},
		"cut in the key":    {data: key(nil, "persons/7")[:6], err: contract.ErrMalformed},
		"cut in another":    {data: number(key(nil, "persons/7"))[:13], err: contract.ErrMalformed},
		"group without end": {data: protowire.AppendTag(nil, 5, protowire.StartGroupType), err: contract.ErrMalformed},
		"field number 0":    {data: []byte{0, 0}, err: contract.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := event.Subject(test.data)
			if got != test.want || !errors.Is(err, test.err) {
				t.Errorf("Subject = %q, %v; want %q, %v", got, err, test.want, test.err)
			}
		})
	}
}

// FuzzSubject checks that Subject returns what protobuf reads, if protobuf can read the event.
func FuzzSubject(f *testing.F) {
	event := inspected(f)
	f.Add([]byte{})
	f.Add(protowire.AppendString(protowire.AppendTag(nil, keyNumber, protowire.BytesType), "persons/7"))
	f.Add(protowire.AppendTag(nil, 5, protowire.StartGroupType))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := event.Subject(data)
		if (err == nil) != (got != "") {
			t.Fatalf("Subject = %q, %v", got, err)
		}
		message := dynamicpb.NewMessage(event.Message)
		if proto.Unmarshal(data, message) != nil {
			return
		}
		want := message.Get(event.Key).String()
		switch {
		case want == "" && !errors.Is(err, contract.ErrEmptyKey):
			t.Errorf("Subject = %q, %v; want ErrEmptyKey", got, err)
		case want != got:
			t.Errorf("Subject = %q, %v; want %q", got, err, want)
		}
	})
}

func ExampleEventType_Subject() {
	messages := identityv1.File_acme_identity_v1_identity_events_proto.Messages()
	event, err := contract.EventTypeOf(messages.ByName("ApplicantVerified"))
	if err != nil {
		fmt.Println(err)
		return
	}
	data, err := proto.Marshal(&identityv1.ApplicantVerified{Applicant: "applicants/7", RegisterReference: "R-1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(event.Subject(data))
	fmt.Println(event.Subject(nil))
	// Output:
	// applicants/7 <nil>
	//  reading applicant of acme.identity.v1.ApplicantVerified: the correlation key is empty
}
