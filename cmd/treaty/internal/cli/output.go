package cli

import (
	"encoding/json"
	"io"

	"google.golang.org/protobuf/proto"

	"github.com/treatyhq/treaty/cmd/treaty/internal/connection"
	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	"github.com/treatyhq/treaty/cmd/treaty/internal/schema"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// terminal returns the size of the terminal that Stdout is. It returns false when Stdout isn't a terminal that can be drawn on.
func (a *app) terminal() (render.Screen, bool) {
	screen, ok := a.Screen()
	return screen, ok && a.Getenv("TERM") != "dumb"
}

// view makes a view for where the output goes. Color needs a terminal that has it, and neither NO_COLOR nor --no-color.
func (a *app) view(c *connection.Client, payloads render.Payloads) *render.View {
	screen, terminal := a.terminal()
	return render.New(render.Options{
		Terminal:        terminal,
		Color:           terminal && !a.flags.noColor && a.Getenv("NO_COLOR") == "",
		Screen:          screen,
		Now:             a.Now(),
		Zone:            a.Location,
		Schema:          c.Schema,
		ConnectionFlags: a.flags.repeated(),
		Payloads:        payloads,
	})
}

// print prints text. The writer itself keeps a failure to write.
func (a *app) print(text string) { _, _ = io.WriteString(a.Stdout, text) }

// printStanding prints a saga's name and state.
func (a *app) printStanding(c *connection.Client, saga *treatyv1.Saga) {
	if a.flags.json {
		a.printJSON(c, saga)
		return
	}
	a.print(a.view(c, render.SagaPayloads).Standing(saga))
}

// printJSON prints one message as one line of JSON.
func (a *app) printJSON(c *connection.Client, message proto.Message) {
	_, _ = a.Stdout.Write(append(schema.NewEncoder(c.Schema).Encode(message), '\n'))
}

// writeJSON writes a value as one line of JSON. The writer itself keeps a failure to write.
func writeJSON(w io.Writer, value any) {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(value)
}
