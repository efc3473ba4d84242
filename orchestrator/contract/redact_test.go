package contract_test

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
)

func ExampleRedact() {
	customer := &customerv1.Customer{Name: "customers/7", DisplayName: "Ada Lovelace", Email: "ada@example.com"}
	shown := proto.CloneOf(customer)
	contract.Redact(shown)
	fmt.Println(shown.GetName(), shown.GetDisplayName(), shown.GetEmail())
	// Output: customers/7 [REDACTED] [REDACTED]
}

// secrets returns the message of testdata/valid/secrets.proto, which has a field of every kind.
func secrets(t *testing.T) (protoreflect.MessageType, *dynamicpb.Types) {
	t.Helper()
	file := mustCompile(t, "testdata/valid", "secrets")
	files := new(protoregistry.Files)
	if err := files.RegisterFile(file); err != nil {
		t.Fatal(err)
	}
	return dynamicpb.NewMessageType(file.Messages().ByName("Secrets")), dynamicpb.NewTypes(files)
}

// nested is a message with an Any in an Any.
func nested(fields string) string {
	const held = "any { [type.googleapis.com/acme.v1.Secrets] { %s } }"
	return fmt.Sprintf(held, fmt.Sprintf(held, fields))
}

func TestRedact(t *testing.T) {
	kind, types := secrets(t)
	for name, test := range map[string]struct{ shown, want string }{
		"string":       {`text: "s" open: "o"`, `text: "[REDACTED]" open: "o"`},
		"empty string": {`open: "o"`, `open: "o"`},
		"optional":     {`maybe: ""`, `maybe: ""`},
		"required":     {`need { id: 1 pin: 7 }`, `need { id: 1 pin: 0 }`},
		"list":         {`texts: "s" texts: "s"`, ``},
		"map":          {`by_name { key: "s" value: "s" }`, ``},
		"bytes":        {`raw: "s"`, ``},
		"number":       {`number: 7`, ``},
		"message":      {`whole { text: "s" }`, ``},
		"oneof":        {`choice: "s"`, `choice: "[REDACTED]"`},
		"nested":       {`inner { text: "s" open: "o" }`, `inner { text: "[REDACTED]" open: "o" }`},
		"nested list": {`inners { text: "s" } inners { open: "o" }`,
			`inners { text: "[REDACTED]" } inners { open: "o" }`},
		"nested map": {`inner_by_id { key: 1 value { text: "s" } }`,
			`inner_by_id { key: 1 value { text: "[REDACTED]" } }`},
		"any": {`any { [type.googleapis.com/acme.v1.Secrets] { text: "s" open: "o" } }`,
			`any { [type.googleapis.com/acme.v1.Secrets] { text: "[REDACTED]" open: "o" } }`},
		"unknown any": {`any { type_url: "type.googleapis.com/acme.v1.Nobody" value: "s" }`,
			`any { type_url: "type.googleapis.com/acme.v1.Nobody" }`},
		"broken any": {`any { type_url: "type.googleapis.com/acme.v1.Secrets" value: "\xff" }`,
			`any { type_url: "type.googleapis.com/acme.v1.Secrets" }`},
		"any in any": {
			nested(`number: 7`), nested(``),
		},
		"no value at all": {``, ``},
	} {
		t.Run(name, func(t *testing.T) {
			parse := func(text string) proto.Message {
				m := kind.New().Interface()
				unmarshal := prototext.UnmarshalOptions{Resolver: types, AllowPartial: true}
				if err := unmarshal.Unmarshal([]byte(text), m); err != nil {
					t.Fatal(err)
				}
				return m
			}
			got, want := parse(test.shown), parse(test.want)
			contract.RedactWith(types, got)
			if !proto.Equal(got, want) {
				t.Errorf("%v, want %v", got, want)
			}
		})
	}
}

func TestRedactClearsUnreadableValues(t *testing.T) {
	m := &customerv1.Customer{Name: "customers/7"}
	m.ProtoReflect().SetUnknown(protoreflect.RawFields{0xa2, 0x06, 1, 's'})
	contract.Redact(m)
	if len(m.ProtoReflect().GetUnknown()) > 0 {
		t.Error("unknown fields are shown")
	}

	deep := &anypb.Any{TypeUrl: "type.googleapis.com/acme.customer.v1.Customer",
		Value: marshal(t, &customerv1.Customer{Name: "n"})}
	for range 100 {
		deep = &anypb.Any{TypeUrl: "type.googleapis.com/google.protobuf.Any", Value: marshal(t, deep)}
	}
	shown := &treatyv1.Saga{Request: deep}
	contract.Redact(shown)
	depth := 0
	for outer := shown.GetRequest(); len(outer.GetValue()) > 0; depth++ {
		inner := new(anypb.Any)
		if err := proto.Unmarshal(outer.GetValue(), inner); err != nil {
			t.Fatal(err)
		}
		outer = inner
	}
	if depth > 40 {
		t.Errorf("%d nested Anys are read", depth)
	}
}

func TestRedactKeepsOtherMessages(t *testing.T) {
	open, err := structpb.NewStruct(map[string]any{"a": "b", "c": []any{1.0, "d"}})
	if err != nil {
		t.Fatal(err)
	}
	want := proto.CloneOf(open)
	contract.Redact(open)
	if !proto.Equal(open, want) {
		t.Errorf("%v, want %v", open, want)
	}
	contract.Redact(nil)
	contract.Redact((*customerv1.Customer)(nil))
}

func FuzzRedact(f *testing.F) {
	f.Add([]byte("\x0a\x01s"))
	f.Add(marshal(f, &customerv1.Customer{DisplayName: "s", Email: "s"}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		saga := &treatyv1.Saga{Request: &anypb.Any{TypeUrl: "type.googleapis.com/acme.customer.v1.Customer",
			Value: raw}}
		contract.Redact(saga)
		customer := new(customerv1.Customer)
		if err := saga.GetRequest().UnmarshalTo(customer); err != nil {
			t.Fatalf("the redacted message is unreadable: %v", err)
		}
		for _, shown := range []string{customer.GetDisplayName(), customer.GetEmail()} {
			if shown != "" && shown != contract.RedactedText {
				t.Errorf("%q is shown", shown)
			}
		}
	})
}
