package schema

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/treatyhq/treaty/cmd/treaty/internal/servertest"
)

// FuzzDecode checks that decoding any input returns a message or an error that names the type.
func FuzzDecode(f *testing.F) {
	files, err := servertest.ShopFiles()
	if err != nil {
		f.Fatal(err)
	}
	found, err := files.FindDescriptorByName("shop.v1.Item")
	if err != nil {
		f.Fatal(err)
	}
	types := offline(files)
	for _, seed := range []string{`{}`, `{"sku":1}`, `{"count":"x"}`, `[`, "{\n\"a\":1}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		message, err := types.Decode(found.(protoreflect.MessageDescriptor), []byte(text))
		if (message == nil) == (err == nil) {
			t.Errorf("message %v, error %v", message, err)
		}
		if err != nil && !strings.HasPrefix(err.Error(), "not a shop.v1.Item") {
			t.Errorf("error %v", err)
		}
	})
}
