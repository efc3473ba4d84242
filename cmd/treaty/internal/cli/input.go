package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/schema"
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
			return nil, problem.Usage(flag + ": the file can't be read: " + err.Error())
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
		return nil, problem.Usage("reading " + source + ": " + err.Error())
	}
	if len(raw) > maxInput {
		return nil, problem.Usage(fmt.Sprintf("%s is larger than %d MiB", source, maxInput>>20))
	}
	return &input{source: source, json: raw}, nil
}

// parse reads the JSON as a message.
func (in *input) parse(types *schema.Schema, descriptor protoreflect.MessageDescriptor) (*dynamicpb.Message, error) {
	message, err := types.Decode(descriptor, in.json)
	cause, ok := errors.AsType[*schema.DecodeError](err)
	if !ok {
		return message, err
	}
	p := problem.Usage(in.source + " isn't a " + cause.Detail())
	if len(cause.Fields) > 0 {
		p.Hints = append(p.Hints, "The fields of "+string(cause.Type)+" are "+strings.Join(cause.Fields, ", ")+".")
	} else {
		p.Hints = append(p.Hints, string(cause.Type)+" has no fields: write {}.")
	}
	return nil, p
}
