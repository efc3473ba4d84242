package sagatest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// spanOf returns a duration without zeros at its end, and whole days from a week on: "72h", not "72h0m0s", and "365d".
func spanOf(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= 7*day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	text := d.Round(time.Millisecond).String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-len(zero)+1]
		}
	}
	return text
}

// event is a step or a wait in one run.
type event struct {
	path  []int
	label string
	shape shape
	types []string // of the events that a wait awaits
	how   string   // it ended, if not as usual
	wrong bool     // it ended with an error
}

// shape is how a node is drawn.
type shape string

const (
	isCommand   shape = "[%s]"
	isPivot     shape = "[%s]:::pivot"
	isRetriable shape = "[%s]:::retriable"
	isQuery     shape = "(%s)"
	isChild     shape = "[[%s]]"
	isWait      shape = "{{%s}}"
	isEnd       shape = "([%s])"
)

// scope is a scope in one run.
type scope struct {
	limit, how string
	broadcast  string // the method, if it is a broadcast and no scope
}

// pass is what one run shows of a saga's round.
type pass struct {
	events map[string]*event
	scopes map[string]*scope
	whole  bool // all branches came to their ends, unless their scope was undone
}

func newPass(s *story) *pass {
	return &pass{
		events: make(map[string]*event), scopes: make(map[string]*scope),
		whole: s.view.GetState() == treatyv1.SagaState_SAGA_STATE_SUCCEEDED,
	}
}

// passes returns what a run shows of each round.
func passes(s *story, local func(method string) bool) []*pass {
	rounds := []*pass{newPass(s)}
	for _, t := range s.turns {
		if t.child != "" {
			continue
		}
		for _, record := range t.turn.GetRecords() {
			if restarted := record.GetSagaRestarted(); restarted != nil && int(restarted.GetRound()) > len(rounds) {
				rounds = append(rounds, newPass(s))
			}
			rounds[len(rounds)-1].note(record, t.turn, local)
		}
	}
	return rounds
}

// note reads a record.
func (p *pass) note(record *treatyv1.Record, turn *treatyv1.Turn, local func(method string) bool) {
	ended := func(path, how string) {
		if e := p.events[path]; e != nil {
			e.how, e.wrong = how, true
		}
	}
	switch r := record.GetKind().(type) {
	case *treatyv1.Record_StepScheduled:
		step := r.StepScheduled
		p.events[step.GetStep()] = &event{
			path: numbersOf(step.GetStep()), label: stepLabel(step), shape: shapeOf(step, local(step.GetMethod())),
		}
	case *treatyv1.Record_StepRefused:
		ended(r.StepRefused.GetStep(), cmp.Or(detailsOf(r.StepRefused.GetFailure()), "refused"))
	case *treatyv1.Record_StepUnknown:
		ended(r.StepUnknown.GetStep(), "given up")
	case *treatyv1.Record_WaitScheduled:
		wait := r.WaitScheduled
		e := &event{path: numbersOf(wait.GetWait()), label: waitName(wait, turn), shape: isWait}
		for _, key := range wait.GetEvents() {
			e.types = append(e.types, short(key.GetType()))
		}
		p.events[wait.GetWait()] = e
	case *treatyv1.Record_WaitEnded:
		p.waited(r.WaitEnded)
	case *treatyv1.Record_BroadcastScheduled:
		p.scope(r.BroadcastScheduled.GetBroadcast()).broadcast = short(r.BroadcastScheduled.GetMethod())
	case *treatyv1.Record_ScopeOpened:
		p.scope(r.ScopeOpened.GetScope()).limit =
			spanOf(r.ScopeOpened.GetDeadline().AsTime().Sub(turn.GetTime().AsTime()))
	case *treatyv1.Record_ScopeCompensationDecided:
		s := p.scope(r.ScopeCompensationDecided.GetScope())
		failure := r.ScopeCompensationDecided.GetFailure()
		s.how = "undone: " + cmp.Or(detailsOf(failure), reasonOf(failure))
		if r.ScopeCompensationDecided.GetCause() == treatyv1.CompensationCause_COMPENSATION_CAUSE_DEADLINE {
			s.how = "undone: out of time"
		}
	}
}

// waited notes how a wait ended.
func (p *pass) waited(ended *treatyv1.WaitEnded) {
	e := p.events[ended.GetWait()]
	if e == nil {
		return
	}
	switch {
	case ended.GetStopped() != nil:
		e.wrong = true
	case ended.GetEvent() != nil:
		e.how = e.types[ended.GetEvent().GetIndex()]
	case len(e.types) > 0:
		e.how = "out of time"
	}
}

func (p *pass) scope(path string) *scope {
	if p.scopes[path] == nil {
		p.scopes[path] = new(scope)
	}
	return p.scopes[path]
}

func stepLabel(step *treatyv1.StepScheduled) string {
	label := short(step.GetMethod())
	if undo := step.GetCompensation().GetMethod(); undo != "" && undo != step.GetMethod() {
		label += "<br/>↩ " + short(undo)
	}
	return label
}

func shapeOf(step *treatyv1.StepScheduled, child bool) shape {
	switch {
	case child:
		return isChild
	case step.GetKind() == treatyv1.CommandKind_COMMAND_KIND_PIVOT:
		return isPivot
	case step.GetKind() == treatyv1.CommandKind_COMMAND_KIND_RETRIABLE:
		return isRetriable
	case step.GetKind() == treatyv1.CommandKind_COMMAND_KIND_QUERY:
		return isQuery
	}
	return isCommand
}

// block is a part of a saga whose items come one after the other: the saga itself, or a branch.
type block struct {
	items []*item
	edges []*edge
	exits []*item // the last ones of runs that came to the end of the block
}

// item is a step, a wait, or branches.
type item struct {
	position int
	nth      int // it is the nth in its block with this label; of branches, the position
	label    string
	shape    shape
	branches map[int]*block
	limit    string // of a scope
	scope    bool
	method   string // of a broadcast
}

// edge says that one item followed another one. The first item of a block follows nil.
type edge struct {
	from, to *item
	how      []string
	usual    bool // in the run without faults
}

// find returns an item of a block: the branches at a position, or a step or wait that a run came to as often as this
// one. Their positions differ after a way that sends more or fewer commands.
func (b *block) find(like item) *item {
	for _, i := range b.items {
		if i.label == like.label && i.nth == like.nth && (i.branches == nil) == (like.branches == nil) {
			return i
		}
	}
	b.items = append(b.items, &like)
	return &like
}

// join notes that one item followed another one.
func (b *block) join(from, to *item, how string, usual bool) {
	for _, e := range b.edges {
		if e.from == from && e.to == to {
			e.usual = e.usual || usual
			if !slices.Contains(e.how, how) {
				e.how = append(e.how, how)
			}
			return
		}
	}
	b.edges = append(b.edges, &edge{from, to, []string{how}, usual})
}

// add adds what a run showed of a block: the events whose paths begin with prefix. It returns the last item, how that
// ended, and whether with an error.
func (b *block) add(p *pass, events []*event, depth int, usual bool) (last *item, how string, wrong bool) {
	byPosition := make(map[int][]*event)
	for _, e := range events {
		byPosition[e.path[depth]] = append(byPosition[e.path[depth]], e)
	}
	times := make(map[string]int) // by label
	for _, position := range sortedKeys(byPosition) {
		here := byPosition[position]
		e := here[0]
		var next *item
		nextHow, nextWrong := e.how, e.wrong
		if len(e.path) == depth+1 {
			times[e.label]++
			next = b.find(item{position: position, nth: times[e.label], label: e.label, shape: e.shape})
		} else {
			next = b.find(item{position: position, nth: position, branches: make(map[int]*block)})
			nextHow, nextWrong = next.addBranches(p, here, depth+1, usual)
		}
		b.join(last, next, how, usual)
		last, how, wrong = next, nextHow, nextWrong
	}
	if p.whole && !slices.Contains(b.exits, last) {
		b.exits = append(b.exits, last)
	}
	return last, how, wrong
}

// addBranches adds what a run showed of parallel branches or a scope.
func (i *item) addBranches(p *pass, events []*event, depth int, usual bool) (how string, wrong bool) {
	byBranch := make(map[int][]*event)
	for _, e := range events {
		byBranch[e.path[depth]] = append(byBranch[e.path[depth]], e)
	}
	s := p.scopeAt(events[0].path[:depth])
	if s != nil && s.how != "" {
		whole := p.whole
		defer func() { p.whole = whole }()
		p.whole = false
	}
	for _, branch := range sortedKeys(byBranch) {
		if i.branches[branch] == nil {
			i.branches[branch] = new(block)
		}
		_, _, branchWrong := i.branches[branch].add(p, byBranch[branch], depth+1, usual)
		wrong = wrong || branchWrong
	}
	if s != nil {
		i.scope, i.limit, i.method, how, wrong = s.broadcast == "", s.limit, s.broadcast, s.how, wrong || s.how != ""
	}
	return how, wrong
}

// scopeAt returns the scope or the broadcast at a path, or nil.
func (p *pass) scopeAt(path []int) *scope {
	for at, s := range p.scopes {
		if slices.Equal(numbersOf(at), path) {
			return s
		}
	}
	return nil
}

// flow returns what runs showed of a saga, as a Mermaid flowchart. The first run is the one without faults.
func flow(name string, runs []outcome, local func(method string) bool) string {
	root := new(block)
	ends := make(map[string]*item)
	end := func(label string) *item {
		if ends[label] == nil {
			ends[label] = &item{label: label, shape: isEnd}
		}
		return ends[label]
	}
	for n, run := range runs {
		rounds := passes(run.story, local)
		for i, p := range rounds {
			var events []*event
			for _, e := range p.events {
				events = append(events, e)
			}
			slices.SortFunc(events, func(a, b *event) int { return slices.Compare(a.path, b.path) })
			last, how, wrong := root.add(p, events, 0, n == 0)
			failed := run.story.view.GetCause() == treatyv1.CompensationCause_COMPENSATION_CAUSE_FAILED
			switch {
			case i < len(rounds)-1:
				root.join(last, end("the next round"), how, n == 0)
			case run.state == treatyv1.SagaState_SAGA_STATE_SUCCEEDED:
				root.join(last, end("SUCCEEDED"), how, n == 0)
			case failed && !wrong:
				root.join(last, end("COMPENSATED"), how, n == 0)
			}
		}
	}
	d := &drawing{ids: make(map[*item]string)}
	d.line("flowchart TD")
	d.depth++
	d.node(nil, name, isEnd)
	d.block(root)
	for _, label := range []string{"SUCCEEDED", "the next round", "COMPENSATED"} {
		if i := ends[label]; i != nil {
			d.node(i, label, isEnd)
		}
	}
	d.edges(root)
	d.line("classDef pivot stroke-width:4px")
	d.line("classDef retriable stroke-dasharray:4")
	return d.text.String()
}

// drawing writes a flowchart.
type drawing struct {
	text  strings.Builder
	ids   map[*item]string
	depth int
}

func (d *drawing) line(format string, args ...any) {
	d.text.WriteString(strings.Repeat("  ", d.depth))
	fmt.Fprintf(&d.text, format+"\n", args...)
}

// node writes a node. Nil is the saga's start.
func (d *drawing) node(i *item, label string, s shape) {
	d.ids[i] = fmt.Sprintf("n%d", len(d.ids))
	d.line("%s"+string(s), d.ids[i], `"`+label+`"`)
}

// block writes the items of a block.
func (d *drawing) block(b *block) {
	slices.SortStableFunc(b.items, func(a, b *item) int { return a.position - b.position })
	for _, i := range b.items {
		if i.branches == nil {
			d.node(i, i.label, i.shape)
			continue
		}
		branches, title := i.distinct()
		d.ids[i] = fmt.Sprintf("n%d", len(d.ids))
		d.line(`subgraph %s["%s"]`, d.ids[i], title)
		d.depth++
		for _, branch := range branches {
			d.branch(branch)
		}
		d.depth--
		d.line("end")
	}
}

// branch writes a branch, with its end if it can end in several ways.
func (d *drawing) branch(b *block) {
	d.block(b)
	d.edges(b)
	if len(b.exits) < 2 {
		return
	}
	end := fmt.Sprintf("n%d", len(d.ids))
	d.ids[new(item)] = end
	d.line(`%s((" "))`, end)
	for _, i := range b.exits {
		d.line("%s --> %s", d.ids[i], end)
	}
}

// distinct returns the branches to draw, and the title. Branches that are all the same are drawn once.
func (i *item) distinct() (branches []*block, title string) {
	same := true
	for _, n := range sortedKeys(i.branches) {
		branches = append(branches, i.branches[n])
		same = same && i.branches[n].signature() == branches[0].signature()
	}
	switch {
	case i.method != "":
		title = "to each participant"
	case i.limit != "":
		title = "a scope, for " + i.limit + " at most"
	case i.scope:
		title = "a scope"
	case len(branches) == 1:
		title = "a branch"
	case same:
		title = fmt.Sprintf("%d × in parallel", len(branches))
	default:
		title = "in parallel"
	}
	if same {
		branches = branches[:1]
	}
	return branches, title
}

// signature is the same for blocks that are drawn in the same way.
func (b *block) signature() string {
	d := &drawing{ids: map[*item]string{nil: ""}}
	d.branch(b)
	return d.text.String()
}

// edges writes the edges of a block.
func (d *drawing) edges(b *block) {
	for _, e := range b.edges {
		if d.ids[e.from] == "" || e.from == nil && d.depth > 1 {
			continue // the first item of a branch
		}
		arrow := "-->"
		if !e.usual {
			arrow = "-.->"
		}
		how := slices.Clone(e.how)
		slices.Sort(how)
		if how[0] == "" && len(how) > 1 {
			how[0] = "done"
		}
		if label := strings.Join(how, ", "); label != "" {
			arrow += `|"` + label + `"|`
		}
		d.line("%s %s %s", d.ids[e.from], arrow, d.ids[e.to])
	}
}

// sortedKeys returns the keys of a map in their order.
func sortedKeys[V any](m map[int]V) []int { return slices.Sorted(maps.Keys(m)) }
