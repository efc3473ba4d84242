//go:build unix

package dev

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func (s *session) press(keys string) {
	s.t.Helper()
	if _, err := io.WriteString(s.keys, keys); err != nil {
		s.t.Fatal(err)
	}
}

// TestKeys presses keys without Enter, as in a terminal.
func TestKeys(t *testing.T) {
	dir := t.TempDir()
	store := filepath.Join(dir, "s.db")
	two := sh("two", "echo ready; exec sleep 1000")
	two.Stores = []string{store}
	s := openWith(t, Params{Keys: true, Columns: 80}, pid("one"), two)
	s.expect("Press r to restart all, 1 to restart one, 2 to restart two, w to wipe all stores, q to quit.")
	s.expect("two    | ready")
	s.press("2")
	s.expect("restarting two: as typed")
	s.expect("two    | ready")
	s.press("r")
	s.expect("restarting ")
	s.expect("restarting ")
	s.expect("two    | ready")
	write(t, store, "")
	for _, keys := range []string{"3", "0", "x"} {
		s.press(keys)
		s.expect(`unknown: "` + keys + `". Press r to restart all`)
	}
	s.press("wx")
	s.expect("Press w again to delete what all processes have stored. Any other key keeps it.")
	s.expect(`unknown: "x"`)
	s.press("w\r")
	s.expect("Press w again")
	if _, err := os.Stat(store); err != nil {
		t.Errorf("one w has deleted the store: %v", err)
	}
	s.press("ww")
	s.expect("Press w again")
	s.expect("deleted 1 files")
	s.expect("two    | ready")
	s.press("q")
	s.expect("all processes have ended")
	for line := range strings.Lines(s.output()) {
		if !strings.HasSuffix(line, "\r\n") {
			t.Errorf("a terminal in raw mode would begin the line after %q further right", line)
		}
	}
}

// TestInterruptedBuild presses Ctrl-C, which raw mode doesn't make a signal, while a build takes long.
func TestInterruptedBuild(t *testing.T) {
	dir := t.TempDir()
	slow := filepath.Join(dir, "slow")
	p := pid("p")
	p.Build = Command{"sh", "-c", "[ -e " + slow + " ] && echo building && exec sleep 1000 || exit 0"}
	s := openWith(t, Params{Keys: true, Columns: 80}, p)
	s.expect("| pid ")
	write(t, slow, "")
	s.press("1")
	s.expect("p      | building")
	s.press("r") // it waits
	s.press(interrupt)
	s.expect("all processes have ended")
}

// TestTakenHasAKey says which key starts a process again.
func TestTakenHasAKey(t *testing.T) {
	var many []Process
	for name := range strings.SplitSeq("a b c d e f g h i j", " ") {
		many = append(many, sh(name, "exit 1"))
	}
	s := openWith(t, Params{Keys: true, Columns: 80}, many[1:]...)
	s.expect("9 to restart j, w to wipe")
	s = openWith(t, Params{Keys: true, Columns: 80}, many...)
	s.expect("9 to restart i, w to wipe")
	text := func(name string) string { return name + " ended at its start 3 times in a row (exit status 1)." }
	s.expect(text("")[1:])
	for !strings.Contains(s.output(), "Or press 9.") || !strings.Contains(s.output(), "Or press r.") {
		s.expect("Mend it: a change of its files starts it again. Or press ")
	}
}

// TestRewrittenLine shows what takes long in one line, below the others.
func TestRewrittenLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		o := newOutput(&out, nil, nil)
		o.rewrite(40)
		built := o.progress("building a")
		<-time.After(500 * time.Millisecond)
		stopped := o.progress("stopping bb, which takes long")
		o.Say("one")
		<-time.After(time.Second + time.Millisecond)
		o.Say("two")
		built()
		stopped()
		o.Say("three")
		quick := o.progress("quick")
		quick()
		<-time.After(time.Minute)
		const erased = "\r\x1b[K"
		want := "treaty | one\r\n" +
			"building a: 1s" + erased +
			"building a: 1s; stopping bb, which take…" + erased + // the second one's first time
			"treaty | two\r\n" + "building a: 1s; stopping bb, which take…" + erased +
			"stopping bb, which takes long: 1s" + erased +
			"treaty | three\r\n"
		want = strings.ReplaceAll(want, "which take…", "which tak…")
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Errorf("wrote (-want +got):\n%s", diff)
		}
	})
}
