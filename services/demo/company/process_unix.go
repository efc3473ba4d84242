//go:build unix && !linux

package company

import (
	"os"
	"os/exec"
	"syscall"
)

const executableSuffix = ""

// bindToParent ensures that the terminal's Ctrl-C doesn't reach the child: this process stops its children in order.
func bindToParent(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }
