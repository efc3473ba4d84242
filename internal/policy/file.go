package policy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/treatyhq/treaty/internal/configfile"
	"github.com/treatyhq/treaty/orchestrator/access"
)

// Interval is how often a File looks whether its file has changed.
const Interval = time.Second

// FileParams say which file to follow.
type FileParams struct {
	// Path is the file's path.
	Path string

	// Catalog is what the policy may name; nil is anything.
	Catalog *Catalog

	// Logger is told when the policy was replaced, and when it can't be. Default: slog.Default().
	Logger *slog.Logger
}

// File is the policy of a file. It is safe for concurrent use.
type File struct {
	params FileParams
	state  atomic.Pointer[fileState]

	// Only Watch uses these.
	seen   version
	data   []byte
	warned string // the error of the last warning, until the file is valid again
}

// fileState is a policy, and the channel that is closed when another one has replaced it.
type fileState struct {
	policy  *Policy
	changed chan struct{}
}

// version distinguishes one version of a file from another.
type version struct {
	modified time.Time
	size     int64
}

// Open reads a file. Call Watch to follow it.
func Open(params FileParams) (*File, error) {
	if params.Logger == nil {
		params.Logger = slog.Default()
	}
	f := &File{params: params}
	f.seen, _ = f.version() // before the file is read, so that a change in between is found later
	data, policy, err := f.read()
	if err != nil {
		return nil, err
	}
	f.data = data
	f.state.Store(&fileState{policy, make(chan struct{})})
	return f, nil
}

// Authorize implements [access.Authorizer], by the policy in use.
func (f *File) Authorize(ctx context.Context, request access.Request) error {
	return f.state.Load().policy.Authorize(ctx, request)
}

// Changed implements [access.Authorizer].
func (f *File) Changed() <-chan struct{} { return f.state.Load().changed }

// Watch replaces the policy whenever the file has changed, until ctx ends. A file that is missing or invalid changes
// nothing, and is logged once. Call it once.
func (f *File) Watch(ctx context.Context) {
	ticker := time.NewTicker(Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			f.reload()
		}
	}
}

// reload replaces the policy if the file has changed.
func (f *File) reload() {
	version, err := f.version()
	if err == nil && version == f.seen {
		return
	}
	var data []byte
	var policy *Policy
	if err == nil {
		f.seen = version
		data, policy, err = f.read()
	}
	log := f.params.Logger.With("file", f.params.Path)
	switch {
	case err != nil:
		if text := err.Error(); text != f.warned {
			f.warned = text
			log.Error("the policy's file is invalid; the policy that was read before stays in use", "error", err)
		}
	case bytes.Equal(data, f.data):
		if f.warned != "" {
			f.warned = ""
			log.Info("the policy's file is the one in use again")
		}
	default:
		f.data, f.warned = data, ""
		before := f.state.Swap(&fileState{policy, make(chan struct{})})
		close(before.changed)
		log.Info("the policy was replaced", "grants", policy.Grants())
	}
}

func (f *File) version() (version, error) {
	info, err := os.Stat(f.params.Path)
	if err != nil {
		return version{}, fmt.Errorf("reading the policy: %w", err)
	}
	return version{info.ModTime(), info.Size()}, nil
}

func (f *File) read() ([]byte, *Policy, error) {
	data, err := ReadFile(f.params.Path)
	if err != nil {
		return nil, nil, err
	}
	policy, err := Parse(f.params.Path, data, f.params.Catalog)
	return data, policy, err
}

// ReadFile reads a file that is to be parsed. Of one that is too large, it reads just enough for Parse to refuse it.
func ReadFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the policy: %w", err)
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, configfile.MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading the policy: %w", err)
	}
	return data, nil
}
