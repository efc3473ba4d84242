package machine

import (
	"slices"
	"strconv"
	"strings"
)

// line is the steps of one thread in their order. It is read from the steps' paths alone, so that undoing needs no code: "2.1.4" is the fourth
// place of the first branch at place 2. Places of a line follow each other; branches of one place run side by side.
type line struct{ places []*place }

// place is one place of a line: a step, or branches.
type place struct {
	number   int
	step     *Step
	branches []*branch // in the order in which their first steps were scheduled
	byNumber map[int]*branch
	most     int // how many of them were under way at one moment; 0 when that isn't known
}

type branch struct {
	number int
	line   line
}

// order returns the line of the main thread, with all steps in it.
func (s *Saga) order() *line {
	for _, step := range s.Steps[s.ordered:] {
		s.lines.add(step)
	}
	s.ordered = len(s.Steps)
	return &s.lines
}

func (l *line) add(step *Step) {
	path := step.Path()
	if strings.HasPrefix(path, "r") { // the round
		_, path, _ = strings.Cut(path, ".")
	}
	for {
		head, rest, more := strings.Cut(path, ".")
		at := l.place(number(head))
		at.most = 0
		if !more {
			at.step = step
			return
		}
		head, path, more = strings.Cut(rest, ".")
		if !more { // no path that a machine makes
			at.step = step
			return
		}
		l = at.line(number(head))
	}
}

func number(text string) int {
	n, _ := strconv.Atoi(text) // the machine made it
	return n
}

func (l *line) place(number int) *place {
	// Steps are scheduled in the order of their places.
	if last := len(l.places) - 1; last >= 0 && l.places[last].number == number {
		return l.places[last]
	}
	at := &place{number: number}
	l.places = append(l.places, at)
	return at
}

func (p *place) line(number int) *line {
	if b := p.byNumber[number]; b != nil {
		return &b.line
	}
	b := &branch{number: number}
	if p.byNumber == nil {
		p.byNumber = make(map[int]*branch)
	}
	p.byNumber[number] = b
	p.branches = append(p.branches, b)
	return &b.line
}

// find returns the place of a path; nil when nothing was scheduled there.
func (l *line) find(path string) *place {
	if strings.HasPrefix(path, "r") {
		_, path, _ = strings.Cut(path, ".")
	}
	for {
		head, rest, more := strings.Cut(path, ".")
		at := l.has(number(head))
		if at == nil || !more {
			return at
		}
		head, path, _ = strings.Cut(rest, ".")
		b := at.byNumber[number(head)]
		if b == nil {
			return nil
		}
		l = &b.line
	}
}

func (l *line) has(number int) *place {
	// Steps are scheduled in the order of their places.
	if i, found := slices.BinarySearchFunc(l.places, number, func(at *place, number int) int { return at.number - number }); found {
		return l.places[i]
	}
	return nil
}

// next collects the steps whose turn it is when a line is undone: the last place that has something to undo, side by side where its branches
// ran side by side. A step is to be undone, or is being undone, when unfinished says so.
func (l *line) next(unfinished func(*Step) bool, found []*Step) []*Step {
	for _, at := range slices.Backward(l.places) {
		before := len(found)
		if found = at.next(unfinished, found); len(found) > before {
			return found
		}
	}
	return found
}

func (p *place) next(unfinished func(*Step) bool, found []*Step) []*Step {
	if p.step != nil && unfinished(p.step) {
		found = append(found, p.step)
	}
	most := p.atOnce()
	if most == len(p.branches) {
		for _, b := range p.branches {
			found = b.line.next(unfinished, found)
		}
		return found
	}
	for _, b := range slices.Backward(p.branches) {
		before := len(found)
		if found = b.line.next(unfinished, found); len(found) > before {
			most--
		}
		if most == 0 {
			break
		}
	}
	return found
}

// atOnce returns how many of the place's branches were under way at one moment: so many are undone at once. Of those that ran one after the other
// the newest is undone first.
func (p *place) atOnce() int {
	if p.most > 0 || len(p.branches) == 0 {
		return p.most
	}
	type change struct{ at, by int }
	changes := make([]change, 0, 2*len(p.branches))
	for _, b := range p.branches {
		began, ended := b.line.span()
		changes = append(changes, change{began, 1})
		if ended > 0 {
			changes = append(changes, change{ended, -1})
		}
	}
	slices.SortStableFunc(changes, func(a, b change) int { return a.at - b.at })
	now := 0
	for _, c := range changes {
		now += c.by
		p.most = max(p.most, now)
	}
	return p.most
}

// span returns the records in which a line's first step was scheduled and its last one ended, counted from 1; 0 for one that hasn't ended.
func (l *line) span() (began, ended int) {
	open := false
	see := func(b, e int) {
		if began == 0 || b < began {
			began = b
		}
		ended, open = max(ended, e), open || e == 0
	}
	for _, at := range l.places {
		if at.step != nil {
			see(at.step.scheduled, at.step.ended)
		}
		for _, b := range at.branches {
			see(b.line.span())
		}
	}
	if open {
		ended = 0
	}
	return began, ended
}
