package postgres

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// backends returns the postmaster's children. Only Linux tells.
func (p *process) backends() []int {
	listed, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", p.pid, p.pid))
	var pids []int
	for field := range strings.FieldsSeq(string(listed)) {
		if pid, err := strconv.Atoi(field); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// pause stops the postmaster first, so that it starts no further backend.
func (p *process) pause() error {
	problem := send(p.pid, stop)
	for _, backend := range p.backends() {
		problem = errors.Join(problem, send(backend, stop))
	}
	return problem
}

func (p *process) resume() error {
	var problem error
	for _, backend := range p.backends() {
		problem = errors.Join(problem, send(backend, proceed))
	}
	return errors.Join(problem, send(p.pid, proceed))
}

// die kills the postmaster and its backends, and waits for the end of the postmaster. Backends that it doesn't know end
// by themselves once they notice.
func (p *process) die() {
	_ = p.pause() // What has ended already can't be stopped, and needn't be.
	for _, backend := range p.backends() {
		_ = send(backend, kill)
	}
	_ = send(p.pid, kill)
	<-p.ended
}
