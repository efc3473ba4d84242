//go:build unix

package postgres

import (
	"fmt"
	"os"
	"os/exec"
	osuser "os/user"
	"strconv"
	"syscall"
)

// user is whom servers run as.
type user struct {
	// credential is nil for the user of this process.
	credential *syscall.Credential
}

// ordinary returns the user of this process, or the user nobody if that is root.
func ordinary() (user, error) {
	if os.Geteuid() != 0 {
		return user{}, nil
	}
	nobody, err := osuser.Lookup("nobody")
	if err != nil {
		return user{}, fmt.Errorf("PostgreSQL doesn't run as root, and there is no user nobody: %w", err)
	}
	uid, uidErr := strconv.ParseUint(nobody.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(nobody.Gid, 10, 32)
	if uidErr != nil || gidErr != nil {
		return user{}, fmt.Errorf("the user nobody has the ids %s and %s, which aren't numbers", nobody.Uid, nobody.Gid)
	}
	return user{credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}

// own gives a file or folder to the user.
func (u user) own(path string) error {
	if u.credential == nil {
		return nil
	}
	return os.Lchown(path, int(u.credential.Uid), int(u.credential.Gid))
}

// detach makes a command run as the user, in a session of its own.
func (u user) detach(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: u.credential}
}

// become makes a command run as the user.
func (u user) become(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{Credential: u.credential}
}

const (
	stop      = syscall.SIGSTOP
	proceed   = syscall.SIGCONT
	fast      = syscall.SIGINT // PostgreSQL's fast shutdown
	kill      = syscall.SIGKILL
	everybody = 0o001 // the permission to enter a folder
)

// send sends a signal to a process.
func send(pid int, signal syscall.Signal) error { return syscall.Kill(pid, signal) }
