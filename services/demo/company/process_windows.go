package company

import (
	"os"
	"os/exec"
)

const executableSuffix = ".exe"

func bindToParent(*exec.Cmd) {}

// terminate kills the process: Windows can't ask a process without a window to stop.
func terminate(p *os.Process) error { return p.Kill() }
