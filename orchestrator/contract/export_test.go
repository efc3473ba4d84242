package contract

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"
)

// MaxCompleteWithin is the limit that tests compare with.
const MaxCompleteWithin = maxCompleteWithin

// Compiled returns a linked file as its compiler wrote it. LoadCompiled is Load with another such function.
var (
	Compiled     = compiled
	LoadCompiled = load
)

// RedactWith is Redact with types that aren't linked.
func RedactWith(types *dynamicpb.Types, m proto.Message) { redactor{types: types}.redact(m) }
