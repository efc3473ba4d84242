package render

import (
	"fmt"

	"github.com/treatyhq/treaty/cmd/treaty/internal/resource"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Send HideCursor to the terminal before the first frame and ShowCursor after the last one.
const (
	HideCursor = "\x1b[?25l"
	ShowCursor = "\x1b[?25h"

	clearBelow = "\x1b[J"
)

// Frames redraws a saga at the same place of a terminal. The zero value is ready for the first frame. It isn't safe for
// concurrent use.
type Frames struct {
	height int
}

// Next returns the text that replaces the previous frame. notice, if not empty, is shown above the saga. A frame is cut
// off at the size of the screen, so that the next one can move the cursor back to its beginning. The frame of a saga
// that has ended is complete.
func (f *Frames) Next(v *View, saga *treatyv1.Saga, notice string) string {
	lines := v.saga(saga)
	if notice != "" {
		lines = append([]line{text(yellow, "%s", notice)}, lines...)
	}
	screen := v.options.Screen
	if room := screen.Height - 1; !resource.IsFinal(saga.GetState()) {
		for i := range lines {
			lines[i] = lines[i].cut(screen.Width)
		}
		if len(lines) > room && room > 1 {
			hidden := len(lines) - room + 1
			more := text(dim, "… %d more lines: treaty sagas get %s", hidden, saga.GetName())
			lines = append(lines[:room-1:room-1], more.cut(screen.Width))
		}
	}
	back := ""
	if f.height > 0 {
		back = fmt.Sprintf("\x1b[%dA\r%s", f.height, clearBelow)
	}
	f.height = len(lines)
	return back + v.render(lines)
}
