package render

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// began is the time from which the tests count.
var began = time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)

// at returns the time that long after began.
func at(after time.Duration) *timestamppb.Timestamp { return timestamppb.New(began.Add(after)) }

func TestDuration(t *testing.T) {
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
		if got := Duration(c.in); got != c.want {
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
		{-3 * time.Second, "in 3s"}, {59 * time.Second, "59s ago"}, {61 * time.Second, "1m ago"}, {47 * time.Hour,
			"47h ago"},
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
		for _, got := range []string{m.at(nil), m.distance(nil), m.exact(nil), m.between(nil, at(0)),
			m.after(nil, at(0)), m.after(at(0), nil)} {
			if got != "" {
				t.Errorf("an absent time reads %q", got)
			}
		}
	}
}
