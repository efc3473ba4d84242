//go:build proof

package proof

import (
	"archive/zip"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
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

// builds are the directories of the programs of each age.
type builds [newer + 1]string

// buildBoth builds the programs of both ages.
func buildBoth(t *testing.T) builds {
	t.Helper()
	both := builds{t.TempDir(), t.TempDir()}
	if err := company.BuildFrom(t.Context(), olderSources(t), both[older]); err != nil {
		t.Fatalf("commit %s: %v", olderCommit, err)
	}
	if err := company.Build(t.Context(), both[newer]); err != nil {
		t.Fatal(err)
	}
	return both
}

// olderSources copies the sources of olderCommit to a new directory.
func olderSources(t *testing.T) string {
	t.Helper()
	archive := filepath.Join(t.TempDir(), "older.zip")
	git := exec.CommandContext(t.Context(), "git", "archive", "--format=zip", "--output="+archive, olderCommit)
	git.Dir = ".." // it archives the directory that it runs in
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

	builds builds
	ages   map[string]age // by process
}

// openMixture starts a company with a program of each process's age.
func openMixture(t *testing.T, both builds, ages map[string]age, params company.Params) *mixture {
	t.Helper()
	m := &mixture{builds: both, ages: ages}
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
	return m
}

// place places a process's program of its age among the programs.
func (m *mixture) place(t *testing.T, programs, name string) {
	t.Helper()
	link := company.Binary(programs, name)
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if err := os.Symlink(company.Binary(m.builds[m.ages[name]], name), link); err != nil {
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
