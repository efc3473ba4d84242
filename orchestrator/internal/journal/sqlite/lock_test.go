package sqlite

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// holdStore is an environment variable with the path of a store. If it is set, the test binary holds the store open.
const holdStore = "TREATY_TEST_HOLD_STORE"

func TestMain(m *testing.M) {
	path := os.Getenv(holdStore)
	if path == "" {
		os.Exit(m.Run())
	}
	if err := hold(path); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// hold opens a store, writes to it, prints "held", and waits until its input ends.
func hold(path string) error {
	store, err := Open(context.Background(), path, journal.Opening{})
	if err != nil {
		return err
	}
	l := newLedger(1)
	for range 20 {
		group := l.group()
		if err := store.Append(context.Background(), group); err != nil {
			return err
		}
		if err := l.acknowledge(group); err != nil {
			return err
		}
	}
	fmt.Println("held")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	return store.Close()
}

// TestSecondProcess opens a store that another process has open. The error names that process. After it is killed, the
// store can be opened, and has everything that was written.
func TestSecondProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sagas.db")
	holder := exec.CommandContext(t.Context(), os.Args[0])
	holder.Env = append(os.Environ(), holdStore+"="+path)
	in, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatalf("the other process printed %q, %v", line, err)
	}
	_, err = Open(t.Context(), path, journal.Opening{})
	if !errors.Is(err, journal.ErrLocked) {
		t.Fatalf("got %v, want ErrLocked", err)
	}
	for _, want := range []string{path, "process " + strconv.Itoa(holder.Process.Pid)} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error %q doesn't name %q", err, want)
		}
	}

	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = holder.Wait() // it was killed
	store := openAt(t, path)
	defer store.Close()
	if id := store.Identity(); id.PreviousEpoch == 0 || id.Epoch <= id.PreviousEpoch {
		t.Errorf("the store says %+v, want a second epoch", id)
	}
	l := newLedger(1)
	for range 20 {
		if err := l.acknowledge(l.group()); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.audit(t, store, nil); err != nil {
		t.Error(err)
	}
}

// TestSecondStore opens a file that this process has open, by different paths.
func TestSecondStore(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sagas.db")
	store := openAt(t, path)
	links := filepath.Join(t.TempDir(), "links")
	if err := os.Symlink(dir, links); err != nil {
		t.Skip(err)
	}
	fileLink := filepath.Join(dir, "link.db")
	if err := os.Symlink(path, fileLink); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for _, other := range []string{path, "sagas.db", filepath.Join(links, "sagas.db"), fileLink} {
		_, err := Open(t.Context(), other, journal.Opening{})
		want := "it is this process, " + strconv.Itoa(os.Getpid())
		if !errors.Is(err, journal.ErrLocked) || !strings.Contains(err.Error(), want) {
			t.Errorf("opening %s: %v", other, err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	store = openAt(t, filepath.Join(links, "sagas.db"))
	if store.Name() != path || store.Identity().PreviousEpoch == 0 {
		t.Errorf("the store is %s and says %+v, want %s and a second epoch", store.Name(), store.Identity(), path)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestDeletedLock deletes the lock file of an open store. Nobody else can open the store all the same.
func TestDeletedLock(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the lock file is the only lock on this system")
	}
	path := filepath.Join(t.TempDir(), "sagas.db")
	store := openAt(t, path)
	epoch := store.Epoch()
	if err := os.Remove(path + "-lock"); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), path, journal.Opening{})
	if !errors.Is(err, journal.ErrLocked) || !strings.Contains(err.Error(), path+"-lock was deleted") {
		t.Errorf("opening it again: %v", err)
	}
	if _, err := Restore(t.Context(), path, journal.RestoreParams{}); !errors.Is(err, journal.ErrLocked) {
		t.Errorf("restoring it: %v", err)
	}
	reader, err := OpenReadOnly(t.Context(), path)
	if err != nil || reader.Epoch() != epoch {
		t.Fatalf("reading it: epoch %v, want %d: %v", reader, epoch, err)
	}
	if err := errors.Join(reader.Close(), store.Close()); err != nil {
		t.Fatal(err)
	}
	if err := openAt(t, path).Close(); err != nil {
		t.Error(err)
	}
}
