package render

import (
	"fmt"

	"github.com/treatyhq/treaty/cmd/treaty/internal/resource"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// What a terminal is sent around the frames.
const (
	HideCursor = "\x1b[?25l"
	ShowCursor = "\x1b[?25h"

	clearBelow = "\x1b[J"
)

// Frames draws a saga again and again at the same place of a terminal. The zero value has drawn nothing yet. Not safe for
// concurrent use.
type Frames struct {
	height int
}

// Next returns the text that replaces the frame before. notice, if not empty, stands above the saga. What doesn't fit on the screen
// is cut off, so that the cursor finds its way back; a saga that has ended is drawn whole.
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
