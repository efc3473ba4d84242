package server_test

import (
	"bytes"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/access"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/server"
)

// secretEvents returns a catalog with two events, which have the fields card, the correlation key, and holder. The
// holder of shop.Paid is secret.
func secretEvents(t *testing.T) *contract.Catalog {
	t.Helper()
	field := func(name string, number int32, key, secret bool) *descriptorpb.FieldDescriptorProto {
		options := &descriptorpb.FieldOptions{}
		if key {
			proto.SetExtension(options, treatyv1.E_CorrelationKey, true)
		}
		if secret {
			options.DebugRedact = new(true)
		}
		return &descriptorpb.FieldDescriptorProto{
			Name: new(name), Number: new(number), Options: options,
			Type:  descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(),
			Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		}
	}
	message := func(name string, fields ...*descriptorpb.FieldDescriptorProto) *descriptorpb.DescriptorProto {
		options := &descriptorpb.MessageOptions{}
		proto.SetExtension(options, treatyv1.E_Event, &treatyv1.Event{})
		return &descriptorpb.DescriptorProto{Name: new(name), Field: fields, Options: options}
	}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("shop.proto"), Package: new("shop"), Syntax: new("proto3"),
		Dependency: []string{"treaty/v1/options.proto"},
		MessageType: []*descriptorpb.DescriptorProto{
			message("Paid", field("card", 1, true, false), field("holder", 2, false, true)),
			message("Blocked", field("card", 1, true, false), field("holder", 2, false, false)),
		},
	}, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	files := new(protoregistry.Files)
	if err := files.RegisterFile(file); err != nil {
		t.Fatal(err)
	}
	catalog, err := contract.Load(files)
	if err != nil {
		t.Fatal(err)
	}
	return catalog
}

// TestRedactEvent shows events to callers who may not read secrets.
func TestRedactEvent(t *testing.T) {
	catalog := secretEvents(t)
	for name, test := range map[string]struct {
		kind, subject      string
		card, holder, want string
	}{
		"a secret field": {"shop.Paid", "4711", "4711", "Ada", "4711 [4711 [REDACTED]]"},
		"no secrets":     {"shop.Blocked", "4711", "4711", "Ada", "4711 [4711 Ada]"},
		"unknown":        {"shop.Refunded", "4711", "4711", "Ada", "4711 none"},
	} {
		t.Run(name, func(t *testing.T) {
			known, is := catalog.EventType("shop.Paid")
			if other, ok := catalog.EventType(test.kind); ok {
				known = other
			} else if !is {
				t.Fatal("the catalog has no events")
			}
			data := dynamicpb.NewMessage(known.Message)
			data.Set(known.Message.Fields().ByName("card"), protoreflect.ValueOfString(test.card))
			data.Set(known.Message.Fields().ByName("holder"), protoreflect.ValueOfString(test.holder))
			serialized, err := proto.Marshal(data)
			if err != nil {
				t.Fatal(err)
			}
			event := &treatyv1.PublishedEvent{
				Type: test.kind, Subject: test.subject,
				Data: &anypb.Any{TypeUrl: "type.googleapis.com/" + test.kind, Value: serialized},
			}
			server.RedactEvent(catalog, event)
			got := event.GetSubject() + " none"
			if event.GetData() != nil {
				shown := dynamicpb.NewMessage(known.Message)
				if err := proto.Unmarshal(event.GetData().GetValue(), shown); err != nil {
					t.Fatal(err)
				}
				got = event.GetSubject() + " [" + shown.Get(known.Message.Fields().ByName("card")).String() + " " +
					shown.Get(known.Message.Fields().ByName("holder")).String() + "]"
			}
			if got != test.want {
				t.Errorf("it is shown as %q, want %q", got, test.want)
			}
		})
	}
}

// TestStreamsRedactSecrets streams an event to callers who may and may not read secrets. What a redaction takes from it
// is a field that no contract knows.
func TestStreamsRedactSecrets(t *testing.T) {
	data := verified(t, "1", "applicants/1").GetData().GetValue()
	secret := protowire.AppendString(protowire.AppendTag(nil, 99, protowire.BytesType), "a secret")
	for name, may := range map[string]bool{"may read them": true, "may not": false} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int64
			a := newSecureTestServer(t, security{authorizer: newAuthorizer(func(r access.Request) bool {
				if r.Action != access.ReadSecrets {
					return true
				}
				asked.Add(1)
				return may && r.EventType == verifiedType
			})})
			var events []*journal.Event
			for _, id := range []string{"1", "2"} {
				events = append(events, &journal.Event{
					Source: "register", ID: id, Type: verifiedType, Subject: "applicants/1", StoreTime: time.Unix(1, 0),
					Data: append(slices.Clip(data), secret...),
				})
			}
			if err := a.memory.Append(t.Context(), []*journal.Entry{{Events: events}}); err != nil {
				t.Fatal(err)
			}
			l := a.listen(&treatyv1.StreamEventsRequest{})
			for range events {
				response, err := l.stream.Recv()
				if err != nil {
					t.Fatal(err)
				}
				got := response.GetEvent()
				if bytes.Contains(got.GetData().GetValue(), []byte("a secret")) != may ||
					got.GetSubject() != "applicants/1" {
					t.Errorf("the event is %v, want its secret shown: %v", got, may)
				}
			}
			if n := asked.Load(); n != 1 {
				t.Errorf("the authorizer was asked %d times about one type, want once", n)
			}
		})
	}
}
