package postgres

import (
	"fmt"
	"os"
	"os/exec"
)

// guardian waits until its input ends, which is when the process that started it has ended or called Close, and then
// stops the server in the folder $1 and deletes the folder. It is in a session of its own, so that a signal to the
// process group of a test doesn't end it. Its user is that of the process, who may delete folders in any TMPDIR.
const guardian = `
trap '' HUP INT TERM
cat >/dev/null
if pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null) && [ -n "$pid" ] &&
	[ "$(readlink "/proc/$pid/cwd" || echo "$1/data")" = "$1/data" ]; then
	kill -CONT "$pid" $(cat "/proc/$pid/task/$pid/children")
	kill -QUIT "$pid"
	tries=0
	while kill -0 "$pid" && [ "$tries" -lt 50 ]; do
		sleep 0.1
		tries=$((tries + 1))
	done
	kill -KILL "$pid"
fi 2>/dev/null
rm -rf "$1"
`

// watch starts a guardian of a folder. Closing the file that it returns lets the guardian do its work; done is closed
// when it has.
func watch(dir string) (leash *os.File, done <-chan struct{}, err error) {
	input, leash, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = input.Close() }()                     // The guardian has its own.
	command := exec.Command("sh", "-c", guardian, "sh", dir) //nolint:noctx // It outlives every context.
	command.Dir, command.Stdin = "/", input
	user{}.detach(command)
	if err := command.Start(); err != nil {
		_ = leash.Close()
		return nil, nil, fmt.Errorf("starting the guardian of %s: %w", dir, err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = command.Wait() // It has nobody to tell.
	}()
	return leash, ended, nil
}
