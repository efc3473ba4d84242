package sagatest

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// update writes golden files. Its name can't clash with a flag of a test.
var update = flag.Bool("sagatest.update", false, "write the failure matrices of sagatest.Explore instead of comparing")

// maxDifferences is how many lines that differ are reported.
const maxDifferences = 8

// updating reports whether golden files are written.
func updating() bool {
	own := flag.Lookup("update")
	return *update || own != nil && own.Value.String() == "true"
}

// updateFlag returns the name of the flag that makes a test write its golden files.
func updateFlag() string {
	if flag.Lookup("update") != nil {
		return "-update"
	}
	return "-sagatest.update"
}

// matrix returns the golden file of the saga.
func (e *exploration) matrix(first outcome, singles []outcome) string {
	name := short(e.method)
	local := func(method string) bool { return e.code[method] != nil }
	return fmt.Sprintf(goldenText, name, e.report.Definition, flow(name, append([]outcome{first}, singles...), local),
		matrix(first, singles))
}

// goldenText is the golden file: the name, the definition, the diagram and the matrix.
const goldenText = "# %s: what happens when something fails\n\n" +
	"Made by `sagatest.Explore` from runs of `%s`.\n\n" +
	"```mermaid\n%s```\n\n" +
	"↩ names the compensation of a command. A thick frame is the pivot, a dashed frame is a retriable command,\n" +
	"round corners are a query, and double sides are a child saga. A dotted line is a way that only a failure leads\n" +
	"to. If no line leads on from a failure, all steps before it are undone.\n\n" +
	"%s\n" +
	"Steps are undone from left to right, those joined by + in parallel. (null) means that there was nothing to undo.\n"

// compare compares the matrix with the golden file, or writes that.
func (e *exploration) compare(got string) {
	again := fmt.Sprintf("go test -run '^%s$' %s", strings.ReplaceAll(e.t.Name(), "/", "$/^"), updateFlag())
	if e.update {
		if err := write(e.golden, got); err != nil {
			e.fail(nil, "writing the failure matrix of %s to %s: %v", e.report.Definition, e.golden, err)
		}
		return
	}
	want, err := os.ReadFile(e.golden)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.fail(nil, "there is no failure matrix of %s in %s: to write it, run\n\t%s", e.report.Definition, e.golden,
			again)
	case err != nil:
		e.fail(nil, "reading the failure matrix of %s from %s: %v", e.report.Definition, e.golden, err)
	case string(want) != got:
		e.fail(nil, "the failure matrix of %s differs from %s (- the file, + the saga):\n\t%s\n"+
			"if that is intended, run\n\t%s", e.report.Definition, e.golden,
			strings.Join(differences(string(want), got), "\n\t"), again)
	}
}

func write(file, text string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(text), 0o644)
}

// differences returns the first lines that only one of two texts has.
func differences(want, got string) []string {
	lines := make(map[string]int)
	for line := range strings.SplitSeq(got, "\n") {
		lines[line]++
	}
	var differ []string
	for line := range strings.SplitSeq(want, "\n") {
		if lines[line]--; lines[line] < 0 {
			differ = append(differ, "- "+line)
			lines[line] = 0
		}
	}
	for line := range strings.SplitSeq(got, "\n") {
		if lines[line] > 0 {
			lines[line]--
			differ = append(differ, "+ "+line)
		}
	}
	if more := len(differ) - maxDifferences; more > 0 {
		differ = append(differ[:maxDifferences], fmt.Sprintf("and %d lines more", more))
	}
	return differ
}
