package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// elided is a line on the page that stands for any number of lines.
const elided = "..."

// TestPage checks that every output on the page docs/cli.md is in a golden file.
func TestPage(t *testing.T) {
	page := readFile(t, filepath.Join("..", "..", "..", "..", "docs", "cli.md"))
	problems := readFile(t, filepath.Join("testdata", "golden", "problems.txt"))
	outputs := goldenOutputs(t)
	blocks := strings.Split(page, "```console\n")[1:]
	if len(blocks) == 0 {
		t.Fatal("found no examples on the page")
	}
	for _, block := range blocks {
		block, _, _ = strings.Cut(block, "```")
		command, shown, _ := strings.Cut(block, "\n")
		matches := func(output string) bool { return isExcerpt(splitLines(shown), splitLines(output)) }
		if !slices.ContainsFunc(outputs[command], matches) && !strings.Contains(problems, ")\n"+shown+"===") {
			t.Errorf("docs/cli.md: no golden file has this output of %s:\n%s", command, shown)
		}
	}
}

// goldenOutputs returns what the golden files say that each command prints, on both streams.
func goldenOutputs(t *testing.T) map[string][]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", "golden", "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	outputs := map[string][]string{}
	for _, path := range paths {
		command, output, _ := strings.Cut(readFile(t, path), "\n")
		output, _, _ = strings.Cut(strings.Replace(output, "-- stderr --\n", "", 1), "-- exit ")
		outputs[command] = append(outputs[command], output)
	}
	return outputs
}

// isExcerpt reports whether shown is output with some lines elided.
func isExcerpt(shown, output []string) bool {
	for i, line := range shown {
		if line == elided {
			for skipped := range len(output) + 1 {
				if isExcerpt(shown[i+1:], output[skipped:]) {
					return true
				}
			}
			return false
		}
		if len(output) == 0 || output[0] != line {
			return false
		}
		output = output[1:]
	}
	return len(output) == 0
}

func splitLines(text string) []string {
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
