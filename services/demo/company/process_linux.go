package company

import (
	"os"
	"os/exec"
	"syscall"
)

const executableSuffix = ""

// bindToParent lets the child die with this process, whatever ends it, and keeps the terminal's Ctrl-C from it: this
// process ends its children in order.
func bindToParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }
