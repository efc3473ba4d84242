package cli

import (
	"testing"
	"time"
)

func TestFormatDuration(t *testing.T) {
	for _, c := range []struct {
		in   time.Duration
		want string
	}{
		{-time.Second, "0ms"}, {0, "0ms"}, {40 * time.Microsecond, "0ms"}, {400 * time.Microsecond, "0.4ms"},
		{9 * time.Millisecond, "9ms"}, {9900 * time.Microsecond, "9.9ms"}, {12600 * time.Microsecond, "13ms"},
		{120 * time.Millisecond, "120ms"}, {999 * time.Millisecond, "999ms"}, {999600 * time.Microsecond, "1s"},
		{1234 * time.Millisecond, "1.23s"}, {9994 * time.Millisecond, "9.99s"}, {9996 * time.Millisecond, "10s"},
		{12340 * time.Millisecond, "12.3s"}, {59940 * time.Millisecond, "59.9s"}, {59960 * time.Millisecond, "1m00s"},
		{184 * time.Second, "3m04s"}, {time.Hour - time.Millisecond, "1h00m"}, {125 * time.Minute, "2h05m"},
		{24*time.Hour - time.Second, "1d00h"}, {76 * time.Hour, "3d04h"}, {1 << 62, "53376d00h"},
	} {
		if got := formatDuration(c.in); got != c.want {
			t.Errorf("%v: %q, want %q", c.in, got, c.want)
		}
	}
}

func TestFormatDistance(t *testing.T) {
	for _, c := range []struct {
		ago  time.Duration
		want string
	}{
		{0, "now"}, {999 * time.Millisecond, "now"}, {-900 * time.Millisecond, "now"}, {5 * time.Second, "5s ago"},
		{-3 * time.Second, "in 3s"}, {59 * time.Second, "59s ago"}, {61 * time.Second, "1m ago"}, {47 * time.Hour, "47h ago"},
		{48 * time.Hour, "2d ago"}, {-72 * time.Hour, "in 3d"},
	} {
		if got := formatDistance(began, began.Add(-c.ago)); got != c.want {
			t.Errorf("%v: %q, want %q", c.ago, got, c.want)
		}
	}
}

func TestMomentsAbsent(t *testing.T) {
	for _, terminal := range []bool{true, false} {
		m := moments{now: began, zone: time.UTC, terminal: terminal}
		for _, got := range []string{m.at(nil), m.distance(nil), m.exact(nil), m.between(nil, at(0)), m.after(nil, at(0)), m.after(at(0), nil)} {
			if got != "" {
				t.Errorf("an absent time reads %q", got)
			}
		}
	}
}

func TestShellQuote(t *testing.T) {
	for in, want := range map[string]string{
		"": "''", "sagas/x": "sagas/x", "a b": "'a b'", "it's": `'it'\''s'`, "$(rm)": "'$(rm)'", "@f": "@f", "~": "'~'",
	} {
		if got := shellQuote(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain ⏎ text": "plain ⏎ text", "\x1b[31m": `\u001b[31m`, "a\nb\tc\rd": `a\nb\tc\rd`, "\u202eevil": `\u202eevil`, "\u009b": `\u009b`,
		"\xff": `\ufffd`,
	} {
		if got := clean(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
