package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestArguments runs the plugin as a person does.
func TestArguments(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
		err  string
	}{
		{[]string{"--help"}, "opt: paths=source_relative", ""},
		{[]string{"-h"}, "treaty protos DIR", ""},
		{[]string{"--version"}, "protoc-gen-go-treaty ", ""},
		{[]string{"card.proto"}, "", `unknown argument "card.proto": protoc or buf runs this program`},
		{[]string{"--version", "now"}, "", `unknown argument "now": see --help`},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			var out bytes.Buffer
			err := run(test.args, strings.NewReader(""), &out)
			if test.err != "" {
				if err == nil || !strings.HasPrefix(err.Error(), test.err) || out.Len() > 0 {
					t.Errorf("got %v and %q, want %q", err, &out, test.err)
				}
				return
			}
			if err != nil || !strings.Contains(out.String(), test.want) {
				t.Errorf("got %v and %q, want %q", err, &out, test.want)
			}
		})
	}
}

// TestReference tests that the page has a section for each rule that a message refers to.
func TestReference(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "contract-reference.md"))
	if err != nil {
		t.Fatal(err)
	}
	golden, err := os.ReadFile(filepath.Join("testdata", "refused", "golden", "violations", "error.golden"))
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for line := range strings.Lines(string(golden)) {
		rule, anchor, is := strings.Cut(strings.TrimSpace(line), " is explained at "+reference+"#")
		if !is {
			continue
		}
		found++
		if anchor != strings.ToLower(rule) || !strings.Contains(string(page), "\n### "+rule+"\n") {
			t.Errorf("the page has no section for %q", line)
		}
	}
	if found == 0 {
		t.Error("the messages refer to no rule")
	}
}
