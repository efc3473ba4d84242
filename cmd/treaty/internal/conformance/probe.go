package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/treatyhq/treaty/cmd/treaty/internal/schema"
	"github.com/treatyhq/treaty/internal/conform"
)

// maxOutput bounds what is shown of a program's output.
const maxOutput = 500

// cases reads the commands' contracts from the participant.
func (f *File) cases(
	conn grpc.ClientConnInterface, types *schema.Schema, timeout time.Duration,
) ([]conform.Case, error) {
	var cases []conform.Case
	for _, c := range f.Commands {
		method, err := types.Method(c.Method)
		if err != nil {
			return nil, fmt.Errorf("reading the contract of %s: %w", c.Method, err)
		}
		given := conform.Case{Method: method, Request: f.maker(types, method.Input(), c.Request)}
		if _, err := given.Request("x"); err != nil {
			return nil, fmt.Errorf("the request of %s: %w", c.Method, err)
		}
		if c.Refused != nil {
			given.Refused = f.maker(types, method.Input(), c.Refused)
			if _, err := given.Refused("x"); err != nil {
				return nil, fmt.Errorf("the refused request of %s: %w", c.Method, err)
			}
		}
		switch {
		case len(c.Effects.Run) > 0:
			given.Effects = func(ctx context.Context) (int, error) { return f.count(ctx, c.Effects.Run) }
		case c.Effects.Call != "":
			given.Effects, err = f.counter(conn, types, c.Effects, timeout)
			if err != nil {
				return nil, fmt.Errorf("the effects of %s: %w", c.Method, err)
			}
		}
		if len(c.Complete) > 0 {
			given.Complete = func(ctx context.Context, id string) error {
				_, err := f.run(ctx, c.Complete, map[string]string{"command_id": id})
				return err
			}
		}
		cases = append(cases, given)
	}
	return cases, nil
}

// maker makes messages of a type.
func (f *File) maker(
	types *schema.Schema, descriptor protoreflect.MessageDescriptor, template Message,
) func(unique string) (proto.Message, error) {
	return func(unique string) (proto.Message, error) {
		values := maps.Clone(f.values)
		if values == nil {
			values = make(map[string]string)
		}
		values["unique"] = unique
		text, err := template.json(values)
		if err != nil {
			return nil, err
		}
		made := dynamicpb.NewMessage(descriptor)
		if err := (protojson.UnmarshalOptions{Resolver: types}).Unmarshal(text, made); err != nil {
			// The message of a JSON error has a position in JSON that nobody has written.
			return nil, fmt.Errorf("isn't a %s: %s", descriptor.FullName(), withoutPosition(err.Error()))
		}
		return made, nil
	}
}

func withoutPosition(message string) string {
	if _, after, found := strings.Cut(message, "): "); found {
		return after
	}
	return strings.TrimPrefix(message, "proto: ")
}

// counter counts with a call.
func (f *File) counter(
	conn grpc.ClientConnInterface, types *schema.Schema, e Effects, timeout time.Duration,
) (func(context.Context) (int, error), error) {
	method, err := types.Method(e.Call)
	if err != nil {
		return nil, fmt.Errorf("reading the contract of %s: %w", e.Call, err)
	}
	request, err := f.maker(types, method.Input(), e.Request)("")
	if err != nil {
		return nil, err
	}
	field := method.Output().Fields().ByName(protoreflect.Name(e.Count))
	switch {
	case field == nil:
		return nil, fmt.Errorf("%s has no field %q", method.Output().FullName(), e.Count)
	case field.IsMap(), !field.IsList() && !isInteger(field.Kind()):
		return nil, fmt.Errorf("the field %q of %s is neither repeated nor an integer", e.Count,
			method.Output().FullName())
	}
	return func(ctx context.Context) (int, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		reply := dynamicpb.NewMessage(method.Output())
		if err := conn.Invoke(ctx, "/"+conform.Name(method), request, reply); err != nil {
			return 0, fmt.Errorf("%s: %w", e.Call, err)
		}
		value := reply.Get(field)
		if field.IsList() {
			return value.List().Len(), nil
		}
		return strconv.Atoi(fmt.Sprint(value.Interface()))
	}, nil
}

func isInteger(kind protoreflect.Kind) bool {
	switch kind {
	case protoreflect.BoolKind, protoreflect.EnumKind, protoreflect.FloatKind, protoreflect.DoubleKind,
		protoreflect.StringKind, protoreflect.BytesKind, protoreflect.MessageKind, protoreflect.GroupKind:
		return false
	default:
		return true
	}
}

// count runs a program that prints a number.
func (f *File) count(ctx context.Context, program Program) (int, error) {
	out, err := f.run(ctx, program, nil)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil {
		return 0, fmt.Errorf("%s has printed %.100q, want one whole number", program[0], out)
	}
	return n, nil
}

// run runs a program in the file's folder and returns its standard output.
func (f *File) run(ctx context.Context, program Program, values map[string]string) (string, error) {
	var arguments []string
	for _, argument := range program[1:] {
		arguments = append(arguments, expand(argument, values))
	}
	cmd := exec.CommandContext(ctx, program[0], arguments...)
	cmd.Dir = f.dir
	cmd.WaitDelay = time.Second // for what the program leaves behind
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		said := strings.TrimSpace(stderr.String())
		if len(said) > maxOutput {
			said = said[len(said)-maxOutput:]
		}
		if said != "" {
			err = errors.Join(err, errors.New(said))
		}
		return "", fmt.Errorf("running %s: %w", program[0], err)
	}
	return string(out), nil
}

// restart runs the file's program. The processes that it leaves behind don't hold its output.
func (f *File) restart(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, f.Restart[0], f.Restart[1:]...)
	cmd.Dir = f.dir
	log, err := os.CreateTemp("", "treaty-conform-*.log")
	if err != nil {
		return err
	}
	defer func() { _, _ = log.Close(), os.Remove(log.Name()) }()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		said, _ := os.ReadFile(log.Name())
		return fmt.Errorf("running %s: %w: %.*s", f.Restart[0], err, maxOutput, bytes.TrimSpace(said))
	}
	return nil
}
