package sagacode

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/treatyhq/treaty/cmd/treaty/internal/contracts"
	"github.com/treatyhq/treaty/internal/drift"
)

// Params say what to read.
type Params struct {
	// Dir is the folder of a package with sagas. With "/..." at its end, the packages below it belong to it, too.
	Dir string

	// Sagas are the saga definitions to read, e.g. "acme.card.v1.CardSagas/IssueCard", and with them the child sagas
	// that they start. Without any, all sagas are read that are implemented in the folder.
	Sagas []string
}

// Code is what was read.
type Code struct {
	// Sagas are the saga definitions whose code was read, sorted.
	Sagas []string

	// Uses are the commands that they send. A child saga whose code was read is none of them.
	Uses []contracts.Use

	// Notes say what looks like a mistake, each in a sentence.
	Notes []string
}

// Read reads the code of sagas. It runs the go command, which builds the packages as they are, with the environment of
// this process. The error says what to do.
func Read(ctx context.Context, params Params) (*Code, error) {
	dir, pattern := params.Dir, "."
	if above, below := strings.CutSuffix(filepath.ToSlash(dir), "/..."); below {
		dir, pattern = above, "./..."
	}
	if about, err := os.Stat(dir); err != nil || !about.IsDir() {
		return nil, fmt.Errorf("%s is no folder: name the folder of the package with the sagas", dir)
	}
	packages, err := list(ctx, dir, pattern)
	if err != nil {
		return nil, fmt.Errorf("reading the code in %s: %w", params.Dir, err)
	}
	program, err := load(packages)
	if err != nil {
		return nil, err
	}
	found := program.collect().sagas()
	if len(found) == 0 {
		return nil, fmt.Errorf("%s has no sagas: name the folder with the types that implement the generated "+
			"interfaces, such as CardSagas, or with /... a folder above it", params.Dir)
	}
	contract, err := describe(packages)
	if err != nil {
		return nil, err
	}
	selected, err := choose(found, params)
	if err != nil {
		return nil, err
	}
	out := &Code{Sagas: selected}
	for _, saga := range selected {
		if err := out.add(saga, found, contract); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// choose returns the sagas to read, sorted: those that params name, and the children that they start.
func choose(found map[string]*code, params Params) ([]string, error) {
	if len(params.Sagas) == 0 {
		return slices.Sorted(maps.Keys(found)), nil
	}
	chosen := make(map[string]bool)
	for queue := slices.Clone(params.Sagas); len(queue) > 0; queue = queue[1:] {
		switch code := found[queue[0]]; {
		case chosen[queue[0]]:
		case code != nil:
			chosen[queue[0]] = true
			queue = append(queue, slices.DeleteFunc(slices.Clone(code.commands), func(command string) bool {
				return found[command] == nil
			})...)
		default:
			return nil, fmt.Errorf("%s has no code for the saga %s: it has code for %s", params.Dir, queue[0],
				strings.Join(slices.Sorted(maps.Keys(found)), ", "))
		}
	}
	return slices.Sorted(maps.Keys(chosen)), nil
}

// add adds what a saga does.
func (c *Code) add(saga string, found map[string]*code, contract *described) error {
	code := found[saga]
	if code.unclear != "" {
		return fmt.Errorf("%s: %s with a method that is only known at run time: use the generated functions", saga,
			code.unclear)
	}
	var looksFor []protoreflect.FullName
	for _, one := range code.looksFor {
		if name, ok := contract.message(one); ok {
			looksFor = append(looksFor, name)
		}
	}
	declared := make(map[protoreflect.FullName]bool)
	for _, command := range code.commands {
		method := contract.methods[command]
		if method == nil {
			return fmt.Errorf("%s sends a command to %s, whose contract isn't in the code that it is compiled with: "+
				"import the package that is generated from it", saga, command)
		}
		for _, rejection := range drift.Rejections(method) {
			declared[rejection] = true
		}
		if found[command] == nil {
			c.Uses = append(c.Uses, contracts.Use{Saga: saga, Method: method, Handles: looksFor})
		}
	}
	for _, one := range code.certain {
		if name, ok := contract.message(one); ok && !declared[name] {
			c.Notes = append(c.Notes,
				fmt.Sprintf("%s looks for the rejection %s, which none of its commands declares", saga, name))
		}
	}
	return nil
}
