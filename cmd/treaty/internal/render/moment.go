package render

import (
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// Duration returns a duration with about three digits: 0.4ms, 120ms, 1.23s, 12.3s, 3m04s, 2h05m, 3d04h. A negative
// duration counts as 0.
func Duration(d time.Duration) string {
	switch {
	case d <= 0:
		return "0ms"
	case d < 10*time.Millisecond:
		return shortFloat(float64(d)/float64(time.Millisecond), 1) + "ms"
	case d < 999500*time.Microsecond:
		return strconv.FormatInt(d.Round(time.Millisecond).Milliseconds(), 10) + "ms"
	case d < 9995*time.Millisecond:
		return shortFloat(d.Seconds(), 2) + "s"
	case d < 59950*time.Millisecond:
		return shortFloat(d.Seconds(), 1) + "s"
	case d < time.Hour-500*time.Millisecond:
		seconds := int64(d.Round(time.Second) / time.Second)
		return fmt.Sprintf("%dm%02ds", seconds/60, seconds%60)
	case d < 24*time.Hour-30*time.Second:
		minutes := int64(d.Round(time.Minute) / time.Minute)
		return fmt.Sprintf("%dh%02dm", minutes/60, minutes%60)
	default:
		hours := int64(d.Round(time.Hour) / time.Hour)
		return fmt.Sprintf("%dd%02dh", hours/24, hours%24)
	}
}

// shortFloat returns a number with at most the given number of decimals, without trailing zeros.
func shortFloat(value float64, digits int) string {
	text := strconv.FormatFloat(value, 'f', digits, 64)
	for text[len(text)-1] == '0' {
		text = text[:len(text)-1]
	}
	if text[len(text)-1] == '.' {
		text = text[:len(text)-1]
	}
	return text
}

// formatDistance returns the distance of a time from now in one unit: "now", "5s ago", "in 3m".
func formatDistance(now, then time.Time) string {
	distance := now.Sub(then)
	length := distance.Abs()
	var amount string
	switch {
	case length < time.Second:
		return "now"
	case length < time.Minute:
		amount = strconv.Itoa(int(length/time.Second)) + "s"
	case length < time.Hour:
		amount = strconv.Itoa(int(length/time.Minute)) + "m"
	case length < 48*time.Hour:
		amount = strconv.Itoa(int(length/time.Hour)) + "h"
	default:
		amount = strconv.Itoa(int(length/(24*time.Hour))) + "d"
	}
	if distance < 0 {
		return "in " + amount
	}
	return amount + " ago"
}

// moments formats times. In a terminal they are in the user's time zone, with the distance from now. Elsewhere they are
// in UTC, as RFC 3339 defines, so that the output doesn't depend on when and where it was made.
type moments struct {
	now      time.Time
	zone     *time.Location
	terminal bool
}

// at returns a time, in a terminal with its distance.
func (m moments) at(stamp *timestamppb.Timestamp) string {
	if !m.terminal {
		return m.exact(stamp)
	}
	if stamp == nil {
		return ""
	}
	return stamp.AsTime().In(m.zone).Format("2006-01-02 15:04:05") + " (" + formatDistance(m.now, stamp.AsTime()) + ")"
}

// distance returns a time, in a terminal only its distance.
func (m moments) distance(stamp *timestamppb.Timestamp) string {
	if !m.terminal || stamp == nil {
		return m.exact(stamp)
	}
	return formatDistance(m.now, stamp.AsTime())
}

// coming returns a time in the future: "in 3m", or "at" a time.
func (m moments) coming(stamp *timestamppb.Timestamp) string {
	if m.terminal {
		return m.distance(stamp)
	}
	return "at " + m.exact(stamp)
}

// exact returns a time to the millisecond.
func (m moments) exact(stamp *timestamppb.Timestamp) string {
	if stamp == nil {
		return ""
	}
	return stamp.AsTime().UTC().Format("2006-01-02T15:04:05.000Z")
}

// between returns how long something took. If it hasn't ended, between returns how long it has taken so far in a
// terminal, and nothing elsewhere.
func (m moments) between(from, to *timestamppb.Timestamp) string {
	switch {
	case from == nil:
		return ""
	case to != nil:
		return Duration(to.AsTime().Sub(from.AsTime()))
	case m.terminal:
		return Duration(m.now.Sub(from.AsTime())) + "…"
	default:
		return ""
	}
}

// after returns the time since the saga's start: "+120ms".
func (m moments) after(start, then *timestamppb.Timestamp) string {
	if start == nil || then == nil {
		return ""
	}
	return "+" + Duration(then.AsTime().Sub(start.AsTime()))
}
