package cli

import (
	"fmt"
	"sync"
)

// doing says what a command is doing, for the line on stderr. Its methods may be called concurrently.
type doing struct {
	mu    sync.Mutex
	shown bool
	now   string
}

// begin lets the line be shown, unless stderr has to be JSON. Before it, nothing is: a shell that asks for suggestions
// would show it.
func (d *doing) begin(shown bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shown = shown
}

// say sets what is being done, and how far it is; "" for nothing that should be shown.
func (d *doing) say(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now = fmt.Sprintf(format, args...)
}

func (d *doing) text() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.shown {
		return ""
	}
	return d.now
}
