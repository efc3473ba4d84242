//go:build !unix

package postgres

import (
	"errors"
	"os/exec"
	"syscall"
)

// user is whom servers run as.
type user struct{ credential *struct{} }

var errSystem = errors.New("servers of PostgreSQL are started on Unix only; give the URL of a server that runs")

func ordinary() (user, error) { return user{}, errSystem }

func (user) own(string) error { return nil }

func (user) detach(*exec.Cmd) {}

func (user) become(*exec.Cmd) {}

const (
	stop      = syscall.SIGKILL
	proceed   = syscall.SIGKILL
	fast      = syscall.SIGINT
	kill      = syscall.SIGKILL
	everybody = 0o001
)

func send(int, syscall.Signal) error { return errSystem }
