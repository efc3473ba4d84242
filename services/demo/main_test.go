package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWrongCommandLine(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"an unknown flag", []string{"--twice"}, exitUsage, "-twice"},
		{"an argument", []string{"now"}, exitUsage, `unexpected argument "now"`},
		{"help", []string{"--help"}, 0, "-once"},
		{"a directory with something in it", []string{"--dir", full}, exitFailed, "isn't empty"},
		{"an impossible directory", []string{"--dir", filepath.Join(full, "file", "below")}, exitFailed, "--dir"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			code := start(t.Context(), test.args, &out, &errOut)
			if code != test.code || !strings.Contains(errOut.String(), test.says) {
				t.Errorf("exit code %d and %q, want %d and %q", code, errOut.String(), test.code, test.says)
			}
		})
	}
}

func TestPrefixWriterPassesWholeLines(t *testing.T) {
	var out bytes.Buffer
	w := &prefixWriter{prefix: "card", out: &out}
	for _, piece := range []string{"one\ntw", "o\n", "three"} {
		if n, err := w.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Fatalf("writing %q: %d, %v", piece, n, err)
		}
	}
	if got, want := out.String(), "card         | one\ncard         | two\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
