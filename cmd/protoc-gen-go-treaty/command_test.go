package main

import (
	"bytes"
	"io"
	"io/fs"
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

// keyboard is the standard input of a program that a person runs. Whoever reads it waits for that person.
type keyboard struct{ t *testing.T }

func (k keyboard) Read([]byte) (int, error) {
	k.t.Error("the plugin waits for what a person types")
	return 0, io.EOF
}

func (k keyboard) Stat() (fs.FileInfo, error) { return keyboardInfo{}, nil }

type keyboardInfo struct{ fs.FileInfo }

func (keyboardInfo) Mode() fs.FileMode { return fs.ModeDevice | fs.ModeCharDevice }

// TestNoRequest runs the plugin without a compiler: at a terminal, and with nothing or something else to read.
func TestNoRequest(t *testing.T) {
	for name, test := range map[string]struct {
		in   io.Reader
		want string
	}{
		"terminal": {keyboard{t}, "protoc or buf runs this program, not a person; see --help"},
		"nothing":  {strings.NewReader(""), "the compiler's request is empty: protoc or buf runs this program"},
		"text":     {strings.NewReader("syntax = \"proto3\";"), "reading the compiler's request: "},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			err := run(nil, test.in, &out)
			if err == nil || !strings.HasPrefix(err.Error(), test.want) || out.Len() > 0 {
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
