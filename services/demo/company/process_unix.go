//go:build unix && !linux

package company

import (
	"os"
	"os/exec"
	"syscall"
)

const executableSuffix = ""

// bindToParent keeps the terminal's Ctrl-C from the child: this process ends its children in order.
func bindToParent(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }
