package company

import (
	"os"
	"os/exec"
	"syscall"
)

const executableSuffix = ""

// bindToParent ensures that the child dies with this process, and that the terminal's Ctrl-C doesn't reach it: this
// process stops its children in order.
func bindToParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }
