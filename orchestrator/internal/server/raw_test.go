package server_test

import (
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/treatyhq/treaty/orchestrator/contract"
)

// raw is a serialized request, which may be malformed.
type raw string

// rawCodec sends raw requests unchanged.
type rawCodec struct{}

var _ encoding.Codec = rawCodec{}

func (rawCodec) Marshal(v any) ([]byte, error) {
	if r, ok := v.(raw); ok {
		return []byte(r), nil
	}
	return proto.Marshal(v.(proto.Message))
}

func (rawCodec) Unmarshal(data []byte, v any) error { return proto.Unmarshal(data, v.(proto.Message)) }

func (rawCodec) Name() string { return "proto" }

var errSecret = errors.New("secret: the disk's serial number")

func wrapped(a, b error) error { return fmt.Errorf("%w: %w", a, b) }

func catalogOf(t *testing.T) *contract.Catalog {
	t.Helper()
	catalog, err := contract.Load(protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	return catalog
}
