package schema

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/treatyhq/treaty/cmd/treaty/internal/servertest"
	"github.com/treatyhq/treaty/internal/testkit"
)

// connected returns an encoder that finds types at a server.
func connected(t testing.TB, address string) *Encoder {
	t.Helper()
	types := New(context.Background(), testkit.Dial(t, address), 10*time.Second)
	t.Cleanup(types.Close)
	return &Encoder{schema: types}
}

func TestEncode(t *testing.T) {
	types := connected(t, servertest.New(t).Address)
	for _, c := range []struct{ name, in, want string }{
		{"empty", `{}`, `{}`},
		{"integers", `{"truth":true,"small":-1,"large":"-9007199254740993","natural":"18446744073709551615"}`, ``},
		{"fractions", `{"single":0.1,"twice":1e300}`, ``},
		{"not numbers", `{"single":"NaN","twice":"-Infinity"}`, ``},
		{"texts", `{"text":"<&>\"\n\u2028","raw":"AP8="}`, `{"text":"<&>\"\n\u2028","raw":"AP8="}`},
		{"enums", `{"colour":"COLOUR_RED","colours":["COLOUR_RED",7]}`, ``},
		{"maps", `{"names":{"2":"b","10":"a"}}`, `{"names":{"10":"a","2":"b"}}`},
		{"well known", `{"when":"2026-05-04T10:00:00Z","lasting":"1.500s","free":{"a":[1,null,{"b":true}]},"maybe":""}`,
			``},
		{"presence", `{"chosen":0}`, ``},
		{"any in any",
			`{"any":{"@type":"type.googleapis.com/google.protobuf.Any",
				"value":{"@type":"type.googleapis.com/shop.v1.Card","number":"4111-secret"}}}`,
			`{"any":{"@type":"type.googleapis.com/google.protobuf.Any",
				"value":{"@type":"type.googleapis.com/shop.v1.Card","number":"[redacted]"}}}`},
		{"any of a well known type", `{"any":{"@type":"type.googleapis.com/google.protobuf.Duration","value":"3s"}}`,
			``},
		{"nested", `{"nested":{"nested":{"pin":"4"}}}`, `{"nested":{"nested":{"pin":"[redacted]"}}}`},
		{"redacted",
			`{"hidden":{"holder":"secret"},"secrets":["secret"],"tokens":{"secret":"secret"},
				"pin":"1234","wrapped":"secret"}`,
			`{"hidden":"[redacted]","secrets":"[redacted]","tokens":"[redacted]",
				"pin":"[redacted]","wrapped":"[redacted]"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := c.want
			if want == "" {
				want = c.in
			}
			got, ok := types.EncodeAny(servertest.ShopAny(t, "shop.v1.Everything", c.in))
			if !ok {
				t.Fatal("can't encode it")
			}
			var gotValue, wantValue any
			if err := json.Unmarshal(got, &gotValue); err != nil {
				t.Fatalf("%v: %s", err, got)
			}
			if err := json.Unmarshal([]byte(want), &wantValue); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(wantValue, gotValue); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("too deep", func(t *testing.T) {
		deep := strings.Repeat(`{"nested":`, 150) + `{}` + strings.Repeat("}", 150)
		got, _ := types.EncodeAny(servertest.ShopAny(t, "shop.v1.Everything", deep))
		if !json.Valid(got) || !strings.Contains(string(got), "[too deep]") {
			t.Errorf("got %s", got)
		}
	})
}

// silence is a server without reflection.
type silence struct{}

func (silence) Invoke(context.Context, string, any, any, ...grpc.CallOption) error { return errSilence }

func (silence) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errSilence
}

var errSilence = status.Error(codes.Unimplemented, "no server reflection")

// offline returns a schema with some files, which never asks a server.
func offline(files *protoregistry.Files) *Schema {
	types := New(context.Background(), silence{}, time.Second)
	types.Use(files)
	return types
}

// FuzzEncode checks that any payload is encoded as JSON without the value of a redacted field.
func FuzzEncode(f *testing.F) {
	files, err := servertest.ShopFiles()
	if err != nil {
		f.Fatal(err)
	}
	found, err := files.FindDescriptorByName("shop.v1.Everything")
	if err != nil {
		f.Fatal(err)
	}
	message := found.(protoreflect.MessageDescriptor)
	types := offline(files)
	f.Add(servertest.ShopBytes(f, "shop.v1.Everything",
		`{"text":"x","nested":{"pin":"77665544"},"names":{"1":"a"},"secrets":["topsecret"]}`))
	f.Add([]byte{0xff})
	f.Fuzz(func(t *testing.T, raw []byte) {
		e := &Encoder{schema: types}
		out, ok := e.EncodeBytes(message, raw)
		if !ok {
			return
		}
		var shown map[string]any
		if err := json.Unmarshal(out, &shown); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for _, name := range []string{"hidden", "secrets", "tokens", "pin", "wrapped"} {
			if value, there := shown[name]; there && value != redacted {
				t.Errorf("%s isn't redacted: %s", name, out)
			}
		}
	})
}
