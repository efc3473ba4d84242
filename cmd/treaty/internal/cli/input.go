package cli

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
)

// maxInput bounds what is read from a file or from standard input.
const maxInput = 64 << 20

// input is JSON that the operator gave.
type input struct {
	// source says where it is from, for errors.
	source string

	json []byte
}

// readInput reads the value of a flag: JSON itself, @FILE, or - for standard input.
func (a *app) readInput(flag, value string) (*input, error) {
	switch {
	case value == "-":
		return readAll(a.Stdin, "standard input")
	case strings.HasPrefix(value, "@"):
		path := value[1:]
		file, err := os.Open(path)
		if err != nil {
			return nil, usage(flag + ": the file can't be read: " + err.Error())
		}
		in, err := readAll(file, path)
		// It was only read, so closing it loses nothing.
		_ = file.Close()
		return in, err
	default:
		return &input{source: flag, json: []byte(value)}, nil
	}
}

func readAll(r io.Reader, source string) (*input, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	if err != nil {
		return nil, usage("reading " + source + ": " + err.Error())
	}
	if len(raw) > maxInput {
		return nil, usage(fmt.Sprintf("%s is larger than %d MiB", source, maxInput>>20))
	}
	return &input{source: source, json: raw}, nil
}

// protoPosition finds the place in an error of protojson, protoValue the value that it repeats. The value isn't shown: it may
// be that of a field marked debug_redact, and the place says enough.
var (
	protoPosition = regexp.MustCompile(`\(line (\d+):(\d+)\): ?`)
	protoValue    = regexp.MustCompile(`(?s)^(invalid value for \S+ field \S+?|invalid value|unexpected token):? .*$`)
)

// parse reads the JSON as a message. The error names the field and the place.
func (in *input) parse(types *schema, descriptor protoreflect.MessageDescriptor) (*dynamicpb.Message, error) {
	message := dynamicpb.NewMessage(descriptor)
	err := protojson.UnmarshalOptions{Resolver: types}.Unmarshal(in.json, message)
	if err == nil {
		return message, nil
	}
	// protojson varies its white space on purpose.
	cause := strings.ReplaceAll(err.Error(), "\u00a0", " ")
	cause = strings.TrimPrefix(cause, "proto: ")
	place := ""
	if at := protoPosition.FindStringSubmatch(cause); at != nil {
		place = " at line " + at[1] + ", column " + at[2]
		cause = protoPosition.ReplaceAllString(cause, "")
	}
	cause = strings.TrimPrefix(cause, "syntax error ")
	cause = protoValue.ReplaceAllString(cause, "$1")
	if cause == "unexpected EOF" {
		place, cause = " at its end", "something is missing"
	}
	p := usage(fmt.Sprintf("%s isn't a %s%s: %s", in.source, descriptor.FullName(), place, cause))
	if fields := fieldNames(descriptor); len(fields) > 0 {
		p.hints = append(p.hints, "The fields of "+string(descriptor.FullName())+" are "+strings.Join(fields, ", ")+".")
	} else {
		p.hints = append(p.hints, string(descriptor.FullName())+" has no fields: write {}.")
	}
	return nil, p
}

func fieldNames(descriptor protoreflect.MessageDescriptor) []string {
	var names []string
	for i := range descriptor.Fields().Len() {
		names = append(names, descriptor.Fields().Get(i).JSONName())
	}
	return names
}

// packed puts a message into an Any, always with the same bytes.
func packed(message proto.Message) (*anypb.Any, error) {
	out := new(anypb.Any)
	if err := anypb.MarshalFrom(out, message, proto.MarshalOptions{Deterministic: true}); err != nil {
		return nil, usage("the message can't be serialized: " + err.Error())
	}
	return out, nil
}
