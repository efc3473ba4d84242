package contract_test

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
)

// sagaPlan uses treaty.v1.Saga as a compensation's request: field 4 is a google.protobuf.Any and field 6 a
// treaty.v1.Failure.
var sagaPlan = &treatyv1.CompensationPlan{Method: "acme.v1.S/Undo", ActionField: 4, ReplyField: 6}

func TestCompensationRequest(t *testing.T) {
	action := &anypb.Any{TypeUrl: "type.googleapis.com/acme.v1.Do", Value: []byte("asked")}
	reply := &treatyv1.Failure{Code: 3, Message: "happened"}
	for name, test := range map[string]struct {
		plan          *treatyv1.CompensationPlan
		action, reply []byte
		want          *treatyv1.Saga
	}{
		"both": {sagaPlan, marshal(t, action), marshal(t, reply),
			&treatyv1.Saga{Request: action, Failure: reply}},
		"unknown reply": {sagaPlan, marshal(t, action), nil, &treatyv1.Saga{Request: action}},
		"empty reply": {sagaPlan, marshal(t, action), []byte{},
			&treatyv1.Saga{Request: action, Failure: &treatyv1.Failure{}}},
		"empty action": {sagaPlan, nil, nil, &treatyv1.Saga{Request: &anypb.Any{}}},
		"action alone": {
			&treatyv1.CompensationPlan{ActionField: 4}, marshal(t, action), marshal(t,
				reply), &treatyv1.Saga{Request: action},
		},
		"reply alone": {
			&treatyv1.CompensationPlan{ReplyField: 6}, marshal(t, action), marshal(t,
				reply), &treatyv1.Saga{Failure: reply},
		},
		"no plan": {nil, marshal(t, action), marshal(t, reply), &treatyv1.Saga{}},
	} {
		t.Run(name, func(t *testing.T) {
			got := new(treatyv1.Saga)
			request := contract.CompensationRequest(test.plan, test.action, test.reply)
			if err := proto.Unmarshal(request, got); err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(got, test.want) {
				t.Errorf("request %v, want %v", got, test.want)
			}
		})
	}
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if raw == nil {
		raw = []byte{}
	}
	return raw
}

// FuzzCompensationRequest checks that the request holds the action's request and reply byte for byte, and that protobuf
// reads from the whole what it reads from the parts.
func FuzzCompensationRequest(f *testing.F) {
	f.Add([]byte("\x0a\x03url"), []byte("\x08\x03"), true)
	f.Add([]byte{}, []byte{}, true)
	f.Add([]byte{0xff}, []byte{0x0a}, false)
	f.Fuzz(func(t *testing.T, action, reply []byte, known bool) {
		if !known {
			reply = nil
		} else if reply == nil {
			reply = []byte{}
		}
		request := contract.CompensationRequest(sagaPlan, action, reply)

		wantAction, wantReply := new(anypb.Any), new(treatyv1.Failure)
		readable := proto.Unmarshal(action, wantAction) == nil && proto.Unmarshal(reply, wantReply) == nil
		got := new(treatyv1.Saga)
		if err := proto.Unmarshal(request, got); (err == nil) != readable {
			t.Fatalf("the whole is readable: %v; the parts: %t", err, readable)
		}
		if readable {
			want := &treatyv1.Saga{Request: wantAction}
			if known {
				want.Failure = wantReply
			}
			if !proto.Equal(got, want) {
				t.Errorf("request %v, want %v", got, want)
			}
		}

		// Bytes that aren't a valid message are kept too: google.protobuf.BytesValue has the same wire format as a
		// message field.
		held := new(wrapperspb.BytesValue)
		request = contract.CompensationRequest(&treatyv1.CompensationPlan{ActionField: 1}, action, reply)
		if err := proto.Unmarshal(request, held); err != nil {
			t.Fatal(err)
		}
		if string(held.GetValue()) != string(action) {
			t.Errorf("action %x, want %x", held.GetValue(), action)
		}
	})
}

// CompensationSize is the size of what CompensationRequest returns.
func TestCompensationSize(t *testing.T) {
	for _, plan := range []*treatyv1.CompensationPlan{
		{ActionField: 1, ReplyField: 2}, {ActionField: 100, ReplyField: 3000}, {ActionField: 1}, {ReplyField: 2}, {},
	} {
		for _, action := range []int{0, 1, 127, 128, 1 << 14} {
			for _, reply := range []int{0, 1, 127, 128, 1 << 21} {
				want := len(contract.CompensationRequest(plan, make([]byte, action), make([]byte, reply)))
				if got := contract.CompensationSize(plan, action, reply); got != want {
					t.Errorf("%v of %d and %d bytes: %d, want %d", plan, action, reply, got, want)
				}
			}
		}
	}
}
