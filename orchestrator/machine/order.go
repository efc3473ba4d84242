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
	branches []*branch
	byNumber map[int]*branch
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
	for _, b := range p.branches {
		found = b.line.next(unfinished, found)
	}
	return found
}
