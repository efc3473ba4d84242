//go:build proof

package proof

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/services/demo/company"
)

// olderCommit is the last commit before participants mark their answers, epochs have scopes and stores have identities.
const olderCommit = "f36907f"

// age says which of the two builds of a program is meant.
type age int

const (
	older age = iota // built from olderCommit
	newer            // built from the sources of this test
)

func (a age) String() string { return [...]string{"older", "newer"}[a] }

// builds are the programs of both ages.
type builds struct {
	dirs [2]string // by age

	// scripts run the notification service in TypeScript, by age. They are empty if it can't run here.
	scripts [2]string
}

// buildBoth builds the programs of both ages.
func buildBoth(t *testing.T) builds {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	var both builds
	for a, sources := range [...]string{older: olderSources(t, root), newer: root} {
		both.dirs[a] = t.TempDir()
		if err := company.BuildFrom(t.Context(), sources, both.dirs[a]); err != nil {
			t.Fatalf("the %s programs: %v", age(a), err)
		}
		command, about, err := company.BuildTypeScript(t.Context(), sources)
		if err != nil {
			t.Logf("the %s notification service is only its twin in Go, because %v", age(a), err)
			continue
		}
		t.Logf("the %s notification service is also in %s", age(a), about)
		both.scripts[a] = filepath.Join(both.dirs[a], "typescript")
		script := fmt.Sprintf("#!/bin/sh\nexec '%s' \"$@\"\n", strings.Join(command, "' '"))
		if err := os.WriteFile(both.scripts[a], []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return both
}

// olderSources copies the sources of olderCommit to a new directory.
func olderSources(t *testing.T, root string) string {
	t.Helper()
	archive := filepath.Join(t.TempDir(), "older.zip")
	git := exec.CommandContext(t.Context(), "git", "archive", "--format=zip", "--output="+archive, olderCommit)
	git.Dir = root // it archives the directory that it runs in
	if out, err := git.CombinedOutput(); err != nil {
		t.Fatalf("this test builds programs from commit %s, so it needs git and a clone that contains the commit "+
			"(git fetch --unshallow): %s: %v\n%s", olderCommit, git, err, out)
	}
	opened, err := zip.OpenReader(archive)
	if err != nil {
		t.Fatal(err)
	}
	sources := t.TempDir()
	if err := errors.Join(os.CopyFS(sources, opened), opened.Close()); err != nil {
		t.Fatal(err)
	}
	return sources
}

// mixture is a company whose programs are of different ages.
type mixture struct {
	*company.Company

	builds     builds
	ages       map[string]age // by process
	typeScript bool           // run the notification service in TypeScript if it can run here
}

// open starts the company.
func (m *mixture) open(t *testing.T, params company.Params) {
	t.Helper()
	params.Dir, params.Programs, params.GoOnly = t.TempDir(), t.TempDir(), true
	for _, name := range append(company.Participants(), company.Orchestrator) {
		m.place(t, params.Programs, name)
	}
	var err error
	m.Company, err = company.Open(t.Context(), params)
	t.Cleanup(func() {
		if t.Failed() && m.Conn(company.Orchestrator) != nil {
			showOpen(t, m.Company)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			showLogs(t, m.Company)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	m.check(t)
}

// place places a process's program of its age among the programs.
func (m *mixture) place(t *testing.T, programs, name string) {
	t.Helper()
	program, link := company.Binary(m.builds.dirs[m.ages[name]], name), company.Binary(programs, name)
	if script := m.builds.scripts[m.ages[name]]; m.typeScript && name == company.Notification && script != "" {
		program = script
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if err := os.Symlink(program, link); err != nil {
		t.Fatal(err)
	}
}

// replace ends a process, as end does, and starts its program of another age on the same data and address.
func (m *mixture) replace(t *testing.T, name string, by age, end func(*company.Process) error) {
	t.Helper()
	p := m.Process(name)
	if err := end(p); err != nil {
		t.Fatal(err)
	}
	if name == company.Identity && by == older && m.ages[name] == newer {
		if err := m.DowngradeRegister(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	m.ages[name] = by
	m.place(t, m.Programs, name)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
}

// check checks that participants are of the ages that they should be. The older ones don't know how to describe
// themselves. The newer ones refuse to, since this call has no epoch.
func (m *mixture) check(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callTime)
	defer cancel()
	for _, name := range company.Participants() {
		_, err := treatyv1.NewParticipantServiceClient(m.Conn(name)).Describe(ctx, &treatyv1.DescribeRequest{},
			grpc.WaitForReady(true))
		want := [...]codes.Code{older: codes.Unimplemented, newer: codes.InvalidArgument}[m.ages[name]]
		if status.Code(err) != want {
			t.Errorf("%s should be the %s one, but asked to describe itself it answers %v, want %s", name, m.ages[name],
				err, want)
		}
	}
}

// allOf returns an age for all processes.
func allOf(a age) map[string]age {
	ages := map[string]age{company.Orchestrator: a}
	for _, name := range company.Participants() {
		ages[name] = a
	}
	return ages
}
