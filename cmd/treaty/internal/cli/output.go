package cli

import (
	"encoding/json"
	"io"

	"google.golang.org/protobuf/proto"

	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	"github.com/treatyhq/treaty/cmd/treaty/internal/schema"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// terminal returns the size of the terminal that Stdout is. It returns false when Stdout isn't a terminal, or a dumb
// one.
func (a *app) terminal() (render.Screen, bool) {
	screen, ok := a.Screen()
	return screen, ok && a.Getenv("TERM") != "dumb"
}

// view returns a view for Stdout. It has colors in a terminal unless NO_COLOR or --no-color is set. It needs a
// connected client.
func (a *app) view(payloads render.Payloads) *render.View {
	screen, terminal := a.terminal()
	return render.New(render.Options{
		Terminal:        terminal,
		Color:           terminal && !a.flags.noColor && a.Getenv("NO_COLOR") == "",
		Screen:          screen,
		Now:             a.Now(),
		Zone:            a.Location,
		Schema:          a.client.Schema,
		ConnectionFlags: a.flags.repeated(),
		Payloads:        payloads,
	})
}

// print prints text. Stdout remembers an error.
func (a *app) print(text string) { _, _ = io.WriteString(a.Stdout, text) }

// printStanding prints a saga's name and state.
func (a *app) printStanding(saga *treatyv1.Saga) {
	if a.flags.json {
		a.printJSON(saga)
		return
	}
	a.print(a.view(render.SagaPayloads).Standing(saga))
}

// printJSON prints one message as one line of JSON.
func (a *app) printJSON(message proto.Message) {
	a.print(string(schema.NewEncoder(a.client.Schema).Encode(message)) + "\n")
}

// writeJSON writes a value as one line of JSON. Stdout remembers an error.
func writeJSON(w io.Writer, value any) {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(value)
}
