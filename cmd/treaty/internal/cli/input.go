package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/schema"
)

// maxInput is the largest file or standard input that is read, in bytes.
const maxInput = 64 << 20

// input is JSON from the command line.
type input struct {
	// source names the flag or the file, for errors.
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
			return nil, problem.Usage(flag + ": reading the file: " + err.Error())
		}
		in, err := readAll(file, path)
		// The file was only read, so an error of Close loses nothing.
		_ = file.Close()
		return in, err
	default:
		return &input{source: flag, json: []byte(value)}, nil
	}
}

func readAll(r io.Reader, source string) (*input, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	if err != nil {
		return nil, problem.Usage("reading " + source + ": " + err.Error())
	}
	if len(raw) > maxInput {
		return nil, problem.Usage(fmt.Sprintf("%s is larger than %d MiB", source, maxInput>>20))
	}
	return &input{source: source, json: raw}, nil
}

// decode reads the input as a message of a type. It refuses the text that stands for a redacted value: nobody means it,
// and a participant would take it for the value.
func (a *app) decode(in *input, descriptor protoreflect.MessageDescriptor) (proto.Message, error) {
	if places := schema.RedactedPlaces(in.json); len(places) > 0 {
		return nil, problem.Usage(
			fmt.Sprintf("%s has [redacted] in place of a value, at %s", in.source, strings.Join(places, ", ")),
			"Sensitive values are never shown, so they can't be copied from this program's output. Write the values.")
	}
	message, err := a.client.Schema.Decode(descriptor, in.json)
	if err == nil {
		return message, nil
	}
	cause, ok := errors.AsType[*schema.DecodeError](err)
	if !ok {
		return nil, err
	}
	p := problem.Usage(in.source + " isn't a " + cause.Detail())
	if len(cause.Fields) > 0 {
		p.Hints = append(p.Hints, "The fields of "+string(cause.Type)+" are "+strings.Join(cause.Fields, ", ")+".")
	} else {
		p.Hints = append(p.Hints, string(cause.Type)+" has no fields: write {}.")
	}
	return nil, p
}

// pack reads the input as a message of a type and puts it into an Any.
func (a *app) pack(in *input, descriptor protoreflect.MessageDescriptor) (*anypb.Any, error) {
	message, err := a.decode(in, descriptor)
	if err != nil {
		return nil, err
	}
	return packed(message)
}

func packed(message proto.Message) (*anypb.Any, error) {
	out, err := schema.Pack(message)
	if err != nil {
		return nil, problem.Usage(err.Error())
	}
	return out, nil
}
