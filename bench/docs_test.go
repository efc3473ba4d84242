package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// TestDocumentedCommands checks that the benchmark understands each command line that the documentation, the package
// comment and the records of decisions name.
func TestDocumentedCommands(t *testing.T) {
	pages := []string{"../README.md", "../CHANGELOG.md", "main.go"}
	for _, pattern := range []string{"../docs/*.md", "../docs/adr/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, found...)
	}
	line := regexp.MustCompile("go run \\./bench([^`#\n]*)")
	found := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range line.FindAllStringSubmatch(string(text), -1) {
			found++
			if err := understands(strings.Fields(match[1])); err != nil {
				t.Errorf("%s: go run ./bench%s: %v", page, match[1], err)
			}
		}
	}
	if found == 0 {
		t.Error("no command line is documented; check the pattern")
	}
}

func understands(args []string) error {
	if len(args) > 0 && args[0] == "compare" {
		return compareCommand().ParseFlags(args[1:])
	}
	var o options
	flags := pflag.NewFlagSet("bench", pflag.ContinueOnError)
	o.register(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	return o.validate()
}
