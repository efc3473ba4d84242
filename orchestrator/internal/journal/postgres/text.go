package postgres

import "strings"

// PostgreSQL's texts can't hold a zero byte. So it is stored as the bytes 1 1, and byte 1 as 1 2. That keeps the order
// of texts, and the prefix of a text stays one. Nearly all texts stay as they are.
var (
	storedText   = strings.NewReplacer("\x00", "\x01\x01", "\x01", "\x01\x02")
	restoredText = strings.NewReplacer("\x01\x01", "\x00", "\x01\x02", "\x01")
)

// encoded returns a text as it is stored.
func encoded(text string) string {
	for i := range len(text) {
		if text[i] <= 1 {
			return storedText.Replace(text)
		}
	}
	return text
}

// decoded returns a text from how it is stored.
func decoded(text string) string {
	if strings.IndexByte(text, 1) < 0 {
		return text
	}
	return restoredText.Replace(text)
}
