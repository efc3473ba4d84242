package cli

import (
	"testing"

	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	"github.com/treatyhq/treaty/cmd/treaty/internal/servertest"
)

// TestNoDefinitions asks an orchestrator without definitions for them.
func TestNoDefinitions(t *testing.T) {
	f := servertest.New(t, servertest.WithoutDefinitions)
	for name, s := range map[string]setup{
		"definitions_none":          {args: []string{"definitions"}},
		"definitions_none_json":     {args: []string{"definitions", "--json"}},
		"definitions_none_terminal": {args: []string{"definitions"}, screen: &render.Screen{Width: 160, Height: 50}},
		"definitions_none_start":    {args: []string{"start", "shop.v1.OrderSagas/PlaceOder"}},
	} {
		t.Run(name, func(t *testing.T) {
			s.address = f.Address
			golden(t, name, s, run(t, s))
		})
	}
}
