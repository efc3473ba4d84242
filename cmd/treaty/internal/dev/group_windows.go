package dev

import "os/exec"

func ownGroup(*exec.Cmd) {}

// terminate ends a command: Windows can't ask it to.
func terminate(cmd *exec.Cmd) { _ = cmd.Process.Kill() }

func kill(cmd *exec.Cmd) { _ = cmd.Process.Kill() }
