package progress_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/treatyhq/treaty/internal/progress"
)

func TestLine(t *testing.T) {
	const second = time.Second
	for name, test := range map[string]struct {
		inPlace bool
		doing   string
		lasts   time.Duration
		want    string
	}{
		"short":           {doing: "x", lasts: 900 * time.Millisecond},
		"short, terminal": {doing: "x", lasts: 900 * time.Millisecond, inPlace: true},
		"log":             {doing: "x, 7 of 9", lasts: 5 * second, want: "x, 7 of 9: 1s\nx, 7 of 9: 4s\n"},
		"log over time":   {doing: "x", lasts: 220 * second, want: "1s 4s 10s 22s 46s 1m34s 2m34s 3m34s"},
		"terminal": {doing: "x", lasts: 2500 * time.Millisecond, inPlace: true,
			want: "\rx: 1s\rx: 2s\r     \r"},
		"nothing":           {lasts: 5 * second},
		"nothing, terminal": {lasts: 5 * second, inPlace: true},
		"wide": {doing: strings.Repeat("é", 100), lasts: 1500 * time.Millisecond, inPlace: true,
			want: "\r" + strings.Repeat("é", 74) + "…: 1s\r" + strings.Repeat(" ", 79) + "\r"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				line := progress.Start(progress.LineParams{Out: &out, InPlace: test.inPlace,
					Doing: func() string { return test.doing }})
				<-time.After(test.lasts)
				line.Stop()
				line.Stop()
				<-time.After(time.Hour)
				want := test.want
				if strings.HasPrefix(want, "1s ") {
					want = "x: " + strings.ReplaceAll(want, " ", "\nx: ") + "\n"
				}
				if diff := cmp.Diff(want, out.String()); diff != "" {
					t.Errorf("wrote (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestLineIsRewritten changes what is being done.
func TestLineIsRewritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		count := 10
		line := progress.Start(progress.LineParams{Out: &out, InPlace: true, Doing: func() string {
			count--
			return strings.Repeat("x", count)
		}})
		defer line.Stop()
		<-time.After(2500 * time.Millisecond)
		synctest.Wait()
		if got, want := out.String(), "\rxxxxxxxxx: 1s\rxxxxxxxx: 2s "; got != want {
			t.Errorf("wrote %q, want %q", got, want)
		}
	})
}

// TestLineMakesRoom writes results to the terminal on which the line stands.
func TestLineMakesRoom(t *testing.T) {
	for name, inPlace := range map[string]bool{"terminal": true, "log": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				line := progress.Start(progress.LineParams{Out: &out, InPlace: inPlace,
					Doing: func() string { return "x" }})
				results := line.Over(&out)
				<-time.After(1500 * time.Millisecond)
				_, _ = fmt.Fprintln(results, "one")
				_, _ = io.WriteString(results, "tw") // the line must not overwrite it
				<-time.After(time.Second)
				_, _ = fmt.Fprintln(results, "o")
				<-time.After(time.Second)
				line.Stop()
				want := "\rx: 1s\r     \rone\ntwo\n\rx: 3s\r     \r"
				if !inPlace {
					want = "x: 1s\none\ntwo\n"
				}
				if diff := cmp.Diff(want, out.String()); diff != "" {
					t.Errorf("wrote (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestIsTerminal(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if progress.IsTerminal(file) || progress.IsTerminal(new(bytes.Buffer)) {
		t.Error("a file or a buffer is taken for a terminal")
	}
}

func TestBytes(t *testing.T) {
	for count, want := range map[int64]string{0: "0 B", 999: "999 B", 1500: "1.5 kB", 12_340_000: "12.3 MB",
		2_000_000_000: "2.0 GB"} {
		if got := progress.Bytes(count); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", count, got, want)
		}
	}
}
