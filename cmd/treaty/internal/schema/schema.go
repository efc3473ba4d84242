package schema

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/treatyhq/treaty/internal/reflection"
)

// Schema has the types and methods that a server's reflection offers. It isn't safe for concurrent use.
type Schema struct{ *reflection.Client }

// New makes a schema that asks over conn until ctx ends. timeout limits each question.
func New(ctx context.Context, conn grpc.ClientConnInterface, timeout time.Duration) *Schema {
	return &Schema{reflection.New(ctx, conn, timeout)}
}

// TypeName returns the full name of the message in the type URL of an Any.
func TypeName(url string) protoreflect.FullName {
	return reflection.TypeName(url)
}
