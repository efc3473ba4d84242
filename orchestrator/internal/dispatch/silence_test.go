package dispatch

import (
	"testing"
	"time"
)

func TestSilence(t *testing.T) {
	const second = time.Second
	var start time.Time
	var s silence
	expect := func(what string, began uint64, waited, at time.Duration, lasts, alone bool) {
		t.Helper()
		if l, a := s.unanswered(began, waited, 5*second, start.Add(at)); l != lasts || a != alone {
			t.Errorf("%s: lasts %t, alone %t, want %t and %t", what, l, a, lasts, alone)
		}
	}
	first := s.begin()
	expect("one call", first, 10*second, 10*second, false, false)
	expect("two calls", first, 10*second, 10*second, false, false)
	expect("three calls, for long enough", first, 10*second, 10*second, true, false)

	s.answered()
	expect("a call during which another one was answered", first, 10*second, 11*second, false, true)
	second1 := s.begin()
	for at := range 5 {
		expect("calls over too short a time", second1, second/10, 20*second+time.Duration(at)*second/10, false, false)
	}
	expect("the same run, later", second1, second/10, 25*second, true, false)

	s.answered()
	expect("a new run", s.begin(), second, 26*second, false, false)
	expect("a run that a longer call extends", s.begin(), 3*second, 26*second, false, false)
	expect("but not for long enough", s.begin(), second, 26*second, false, false)
	expect("for long enough", s.begin(), second, 28*second, true, false)
}
