package checks

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// image is what the Containerfile makes.
type image struct {
	base, user, folder string
	entrypoint         []string
	copies             []*instructions.CopyCommand
	arguments          []string
	stages             []string
}

// readImage parses the Containerfile as BuildKit does.
func readImage(t *testing.T) image {
	t.Helper()
	parsed, err := parser.Parse(bytes.NewReader(read(t, containerfile)))
	if err != nil {
		t.Fatal(err)
	}
	stages, _, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		t.Fatal(err)
	}
	last := stages[len(stages)-1]
	made := image{base: last.BaseName}
	for _, stage := range stages[:len(stages)-1] {
		made.stages = append(made.stages, stage.Name)
	}
	for _, command := range last.Commands {
		switch command := command.(type) {
		case *instructions.UserCommand:
			made.user, _, _ = strings.Cut(command.User, ":")
		case *instructions.WorkdirCommand:
			made.folder = command.Path
		case *instructions.EntrypointCommand:
			if !command.PrependShell {
				made.entrypoint = command.CmdLine
			}
		case *instructions.CopyCommand:
			made.copies = append(made.copies, command)
		case *instructions.ArgCommand:
			for _, argument := range command.Args {
				made.arguments = append(made.arguments, argument.Key)
			}
		}
	}
	return made
}

func TestImage(t *testing.T) {
	made := readImage(t)
	if made.base != "scratch" {
		t.Errorf("the image is made from %q, want scratch", made.base)
	}
	if made.user == "" || strings.Trim(made.user, "0123456789") != "" || strings.Trim(made.user, "0") == "" {
		t.Errorf("the user is %q, want a number other than 0", made.user)
	}
	// There is no shell that could run another form.
	if len(made.entrypoint) != 1 {
		t.Fatalf("the entry point is %q, want a program alone, as a list", made.entrypoint)
	}
	var copied []string
	for _, command := range made.copies {
		switch command.From {
		case "":
			if want := []string{"${TARGETOS}_${TARGETARCH}/${PROGRAM}"}; !slices.Equal(command.SourcePaths, want) ||
				command.DestPath != made.entrypoint[0] {
				t.Errorf("it copies %q to %s, want the program where tools/release.sh puts it, %q, to %s",
					command.SourcePaths, command.DestPath, want, made.entrypoint[0])
			}
		default:
			if !slices.Contains(made.stages, command.From) {
				t.Errorf("it copies from %q, which is no stage", command.From)
			}
		}
		copied = append(copied, command.DestPath)
	}
	slices.Sort(copied)
	if want := []string{"/data", "/etc/ssl/certs/ca-certificates.crt", "/program"}; !slices.Equal(copied, want) {
		t.Errorf("the image has %q, want %q", copied, want)
	}
	for _, argument := range []string{"PROGRAM", "TARGETARCH", "TARGETOS"} {
		if !slices.Contains(made.arguments, argument) {
			t.Errorf("the argument %s isn't declared in the stage that uses it", argument)
		}
	}
}
