package machine

import (
	"slices"
	"strconv"
	"strings"
)

// sequence holds the steps of one thread in their order. It is built only from the paths of the steps, so that
// compensating needs no code: path "2.1.4" is position 4 of branch 1 at position 2. The positions of a sequence ran one
// after the other; the branches of a position ran in parallel.
type sequence struct{ positions []*position }

// position is one position of a sequence: a step or branches.
type position struct {
	number     int
	step       *Step
	branches   []*branch // in the order in which their first steps were scheduled
	byNumber   map[int]*branch
	concurrent int // the most branches that ran at the same time; 0 if not computed yet
}

type branch struct {
	number int
	steps  sequence
}

// order returns the sequence of the main thread, with all steps in it.
func (s *Saga) order() *sequence {
	for _, step := range s.Steps[s.ordered:] {
		s.sequence.add(step)
	}
	s.ordered = len(s.Steps)
	return &s.sequence
}

func (q *sequence) add(step *Step) {
	path := withoutRound(step.Path())
	for {
		head, rest, more := strings.Cut(path, ".")
		at := q.last(number(head))
		at.concurrent = 0
		if !more {
			at.step = step
			return
		}
		head, path, more = strings.Cut(rest, ".")
		if !more { // not a path that a machine makes
			at.step = step
			return
		}
		q = at.branchSteps(number(head))
	}
}

// withoutRound removes the round from a path: "r2.1.4" becomes "1.4".
func withoutRound(path string) string {
	if strings.HasPrefix(path, "r") {
		_, path, _ = strings.Cut(path, ".")
	}
	return path
}

func number(text string) int {
	n, _ := strconv.Atoi(text) // the machine made it
	return n
}

// last returns the last position, which it adds if its number differs. Steps are scheduled in the order of their
// positions.
func (q *sequence) last(number int) *position {
	if last := len(q.positions) - 1; last >= 0 && q.positions[last].number == number {
		return q.positions[last]
	}
	at := &position{number: number}
	q.positions = append(q.positions, at)
	return at
}

func (p *position) branchSteps(number int) *sequence {
	if b := p.byNumber[number]; b != nil {
		return &b.steps
	}
	b := &branch{number: number}
	if p.byNumber == nil {
		p.byNumber = make(map[int]*branch)
	}
	p.byNumber[number] = b
	p.branches = append(p.branches, b)
	return &b.steps
}

// find returns the position of a path, or nil if nothing was scheduled there.
func (q *sequence) find(path string) *position {
	path = withoutRound(path)
	for {
		head, rest, more := strings.Cut(path, ".")
		at := q.lookup(number(head))
		if at == nil || !more {
			return at
		}
		head, path, _ = strings.Cut(rest, ".")
		b := at.byNumber[number(head)]
		if b == nil {
			return nil
		}
		q = &b.steps
	}
}

// lookup returns the position with a number, or nil.
func (q *sequence) lookup(number int) *position {
	compare := func(at *position, number int) int { return at.number - number }
	if i, found := slices.BinarySearchFunc(q.positions, number, compare); found {
		return q.positions[i]
	}
	return nil
}

// next appends to found the steps to compensate next: those of the last position that has any, in parallel where its
// branches ran in parallel. The function unfinished selects the steps that must be or are being compensated.
func (q *sequence) next(unfinished func(*Step) bool, found []*Step) []*Step {
	for _, at := range slices.Backward(q.positions) {
		before := len(found)
		if found = at.next(unfinished, found); len(found) > before {
			return found
		}
	}
	return found
}

func (p *position) next(unfinished func(*Step) bool, found []*Step) []*Step {
	if p.step != nil && unfinished(p.step) {
		found = append(found, p.step)
	}
	remaining := p.concurrency()
	if remaining == len(p.branches) {
		for _, b := range p.branches {
			found = b.steps.next(unfinished, found)
		}
		return found
	}
	for _, b := range slices.Backward(p.branches) {
		before := len(found)
		if found = b.steps.next(unfinished, found); len(found) > before {
			remaining--
		}
		if remaining == 0 {
			break
		}
	}
	return found
}

// concurrency returns the largest number of the position's branches that ran at the same time. At most that many are
// compensated at a time, the newest first.
func (p *position) concurrency() int {
	if p.concurrent > 0 || len(p.branches) == 0 {
		return p.concurrent
	}
	type change struct{ at, by int }
	changes := make([]change, 0, 2*len(p.branches))
	for _, b := range p.branches {
		start, end := b.steps.span()
		changes = append(changes, change{start, 1})
		if end > 0 {
			changes = append(changes, change{end, -1})
		}
	}
	slices.SortStableFunc(changes, func(a, b change) int { return a.at - b.at })
	now := 0
	for _, c := range changes {
		now += c.by
		p.concurrent = max(p.concurrent, now)
	}
	return p.concurrent
}

// span returns the numbers of the records, counted from 1, in which a sequence's first step was scheduled and its last
// step ended. The end is 0 if a step has not ended.
func (q *sequence) span() (start, end int) {
	open := false
	include := func(from, to int) {
		if start == 0 || from < start {
			start = from
		}
		end, open = max(end, to), open || to == 0
	}
	for _, at := range q.positions {
		if at.step != nil {
			include(at.step.scheduled, at.step.ended)
		}
		for _, b := range at.branches {
			include(b.steps.span())
		}
	}
	if open {
		end = 0
	}
	return start, end
}
