package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// RedactedPlaces returns the places in JSON that have the text of a redacted value instead of a value, e.g.
// "action.card.number" or "items[0].giftNote". Whoever copies a payload from the output of this program gets that text.
// It returns nil for text that isn't JSON.
func RedactedPlaces(text []byte) []string {
	var value any
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		return nil
	}
	places := redactedPlaces(nil, "", value)
	slices.Sort(places)
	return places
}

func redactedPlaces(places []string, at string, value any) []string {
	switch value := value.(type) {
	case string:
		// The orchestrator writes it in upper case.
		if strings.EqualFold(value, redacted) {
			places = append(places, at)
		}
	case map[string]any:
		for key, inner := range value {
			places = redactedPlaces(places, strings.TrimPrefix(at+"."+key, "."), inner)
		}
	case []any:
		for i, inner := range value {
			places = redactedPlaces(places, fmt.Sprintf("%s[%d]", at, i), inner)
		}
	}
	return places
}
