package machine_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// checkJournal checks the journals of all rounds of a saga, independently of the machine.
func checkJournal(t *testing.T, s *scenario) {
	t.Helper()
	taken := make(map[string]uint64)
	var last time.Time
	rounds := append(append([][]*treatyv1.Turn{}, s.rounds...), s.journal)
	for i, turns := range rounds {
		a := &auditor{t: t, taken: taken, steps: make(map[string]*audited),
			waits: make(map[string]*treatyv1.WaitScheduled),
			open:  make(map[string]time.Time), scheduled: make(map[string]bool), versions: make(map[string]bool),
			broadcasts: make(map[string][]string)}
		for _, turn := range turns {
			a.now = turn.GetTime().AsTime()
			if a.now.Before(last) {
				a.fail(nil, "the time decreased")
			}
			last = a.now
			for _, record := range turn.GetRecords() {
				a.read(record)
			}
		}
		switch {
		case i < len(rounds)-1:
			a.checkComplete("restarted")
		case a.final == "" && s.machine.Saga().Suspension != nil && a.noReturn != "":
			// Its code broke a rule or failed after the point of no return. That is the author's mistake.
		case a.final == "":
			a.fail(nil, "the saga didn't end")
		case a.final == "compensated":
			a.checkCompensated()
		default:
			a.checkComplete(a.final)
			if len(a.waits) > 0 {
				a.fail(nil, "succeeded with open waits")
			}
		}
	}
}

// auditor checks the journal of one round.
type auditor struct {
	t     *testing.T
	now   time.Time
	taken map[string]uint64 // in all rounds

	deadline     time.Time
	steps        map[string]*audited
	waits        map[string]*treatyv1.WaitScheduled
	open         map[string]time.Time // scopes with a deadline
	failedScopes []string             // scopes that are or were compensated
	scheduled    map[string]bool      // paths of all waits and broadcasts
	versions     map[string]bool
	broadcasts   map[string][]string
	decided      bool
	noReturn     string
	final        string
}

// audited is the state of a step.
type audited struct {
	kind  treatyv1.CommandKind
	state string // scheduled, done, refused, unknown, compensating, compensated
}

func (s *audited) mayHaveRun() bool {
	return s.kind == treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE &&
		(s.state == "done" || s.state == "unknown" || s.state == "compensating")
}

func (a *auditor) fail(record *treatyv1.Record, why string) {
	a.t.Helper()
	if record != nil {
		why += ": " + describe(record)
	}
	a.t.Error(why)
}

func (a *auditor) read(record *treatyv1.Record) {
	if a.final != "" {
		a.fail(record, "a record after the final one")
	}
	switch r := record.GetKind().(type) {
	case *treatyv1.Record_SagaStarted:
		a.start(r.SagaStarted)
	case *treatyv1.Record_SagaRestarted:
		a.start(r.SagaRestarted.GetStarted())
	case *treatyv1.Record_StepScheduled:
		a.checkStart(record, r.StepScheduled.GetStep())
		a.schedule(record, r.StepScheduled)
	case *treatyv1.Record_StepDone:
		a.end(record, r.StepDone.GetStep(), "done")
	case *treatyv1.Record_StepRefused:
		a.end(record, r.StepRefused.GetStep(), "refused")
	case *treatyv1.Record_StepUnknown:
		a.end(record, r.StepUnknown.GetStep(), "unknown")
	case *treatyv1.Record_CompensationDecided:
		if a.decided || a.noReturn != "" {
			a.fail(record, "decided twice, or after the point of no return")
		}
		if r.CompensationDecided.GetCause() == treatyv1.CompensationCause_COMPENSATION_CAUSE_DEADLINE &&
			(a.deadline.IsZero() || a.now.Before(a.deadline)) {
			a.fail(record, "before the deadline")
		}
		a.decided = true
	case *treatyv1.Record_CompensationScheduled:
		a.compensate(record, r.CompensationScheduled.GetStep())
	case *treatyv1.Record_CompensationDone:
		step := a.steps[r.CompensationDone.GetStep()]
		if step == nil || step.state != "compensating" {
			a.fail(record, "compensation done, but not scheduled")
			return
		}
		step.state = "compensated"
	case *treatyv1.Record_SagaSucceeded:
		if a.decided {
			a.fail(record, "succeeded after the decision to compensate")
		}
		a.final = "succeeded"
	case *treatyv1.Record_SagaCompensated:
		if !a.decided {
			a.fail(record, "compensated without a decision")
		}
		a.final = "compensated"
	default:
		a.readLanguage(record)
	}
}

func (a *auditor) readLanguage(record *treatyv1.Record) {
	switch r := record.GetKind().(type) {
	case *treatyv1.Record_WaitScheduled:
		a.checkStart(record, r.WaitScheduled.GetWait())
		a.checkOnce(record, r.WaitScheduled.GetWait())
		a.waits[r.WaitScheduled.GetWait()] = r.WaitScheduled
	case *treatyv1.Record_WaitEnded:
		a.endWait(record, r.WaitEnded)
	case *treatyv1.Record_ScopeOpened:
		a.checkStart(record, r.ScopeOpened.GetScope())
		a.open[r.ScopeOpened.GetScope()] = r.ScopeOpened.GetDeadline().AsTime()
	case *treatyv1.Record_ScopeExpired:
		deadline, opened := a.open[r.ScopeExpired.GetScope()]
		delete(a.open, r.ScopeExpired.GetScope())
		if !opened || a.now.Before(deadline) || a.decided {
			a.fail(record, "expired early, twice, or too late")
		}
		if strings.HasPrefix(a.noReturn, r.ScopeExpired.GetScope()+".") {
			a.fail(record, "expired after its point of no return")
		}
	case *treatyv1.Record_ScopeCompensationDecided:
		scope := r.ScopeCompensationDecided.GetScope()
		for path, step := range a.steps {
			if strings.HasPrefix(path, scope+".") && step.state == "scheduled" {
				a.fail(record, "compensated while step "+path+" is open")
			}
		}
		if a.decided || strings.HasPrefix(a.noReturn, scope+".") {
			a.fail(record, "a scope is compensated after a point of no return")
		}
		a.failedScopes = append(a.failedScopes, scope)
	case *treatyv1.Record_BroadcastScheduled:
		a.checkStart(record, r.BroadcastScheduled.GetBroadcast())
		a.checkOnce(record, r.BroadcastScheduled.GetBroadcast())
		a.broadcasts[r.BroadcastScheduled.GetBroadcast()] = r.BroadcastScheduled.GetParticipants()
	case *treatyv1.Record_VersionChosen:
		if a.versions[r.VersionChosen.GetChange()] {
			a.fail(record, "chosen twice")
		}
		a.versions[r.VersionChosen.GetChange()] = true
	}
}

func (a *auditor) start(started *treatyv1.SagaStarted) {
	if started.GetDeadline() != nil {
		a.deadline = started.GetDeadline().AsTime()
	}
}

func (a *auditor) checkOnce(record *treatyv1.Record, path string) {
	if a.scheduled[path] {
		a.fail(record, "scheduled twice")
	}
	a.scheduled[path] = true
}

// checkStart checks that an operation of the code doesn't start after the decision to compensate, in a scope that is
// compensated, or before the operations before it in its sequence have ended.
func (a *auditor) checkStart(record *treatyv1.Record, path string) {
	if a.decided {
		a.fail(record, "started after the decision to compensate")
	}
	for other, step := range a.steps {
		if parted(path, other) > 0 && (step.state == "scheduled" || step.state == "compensating") {
			a.fail(record, "started while step "+other+" before it is open")
		}
		for _, scope := range a.failedScopes {
			if strings.HasPrefix(other, scope+".") && parted(path, other) > 0 && step.mayHaveRun() {
				a.fail(record, "started after scope "+scope+", but step "+other+" isn't compensated")
			}
		}
	}
	for other := range a.waits {
		if parted(path, other) > 0 {
			a.fail(record, "started while wait "+other+" before it is open")
		}
	}
	for _, scope := range a.failedScopes {
		if strings.HasPrefix(path, scope+".") {
			a.fail(record, "started in a scope that is compensated")
		}
	}
}

func (a *auditor) schedule(record *treatyv1.Record, scheduled *treatyv1.StepScheduled) {
	path := scheduled.GetStep()
	if a.steps[path] != nil {
		a.fail(record, "scheduled twice")
	}
	kind := scheduled.GetKind()
	if a.noReturn != "" &&
		(kind == treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE || kind == treatyv1.CommandKind_COMMAND_KIND_PIVOT) {
		a.fail(record, "after the point of no return")
	}
	if a.noReturn == "" &&
		(kind == treatyv1.CommandKind_COMMAND_KIND_PIVOT || kind == treatyv1.CommandKind_COMMAND_KIND_RETRIABLE) {
		for other, step := range a.steps {
			if step.state == "scheduled" || step.state == "compensating" {
				a.fail(record, "a point of no return parallel to step "+other)
			}
		}
	}
	if kind == treatyv1.CommandKind_COMMAND_KIND_RETRIABLE && a.noReturn == "" {
		a.noReturn = path
	}
	if participant := scheduled.GetParticipant(); participant != "" {
		parts := strings.Split(path, ".")
		number, _ := strconv.Atoi(parts[len(parts)-2])
		names := a.broadcasts[strings.Join(parts[:len(parts)-2], ".")]
		if number > len(names) || names[number-1] != participant {
			a.fail(record, "a step of a broadcast without such a participant")
		}
	}
	a.steps[path] = &audited{kind: kind, state: "scheduled"}
}

func (a *auditor) end(record *treatyv1.Record, path, state string) {
	step := a.steps[path]
	if step == nil || step.state != "scheduled" {
		a.fail(record, "ended, but not open")
		return
	}
	step.state = state
	if step.kind == treatyv1.CommandKind_COMMAND_KIND_PIVOT && state == "done" {
		a.noReturn = path
	}
}

func (a *auditor) endWait(record *treatyv1.Record, ended *treatyv1.WaitEnded) {
	wait := a.waits[ended.GetWait()]
	if wait == nil || a.decided {
		a.fail(record, "ended, but not open")
		return
	}
	delete(a.waits, ended.GetWait())
	switch how := ended.GetHow().(type) {
	case *treatyv1.WaitEnded_Due_:
		if wait.GetDue() == nil || a.now.Before(wait.GetDue().AsTime()) {
			a.fail(record, "early")
		}
	case *treatyv1.WaitEnded_Event:
		key := wait.GetEvents()[how.Event.GetIndex()]
		name := key.GetType() + "/" + key.GetSubject()
		if how.Event.GetPosition() <= a.taken[name] {
			a.fail(record, "an event that was already taken, or an older one")
		}
		a.taken[name] = how.Event.GetPosition()
	}
}

// compensate checks that a step is compensated in order.
func (a *auditor) compensate(record *treatyv1.Record, path string) {
	step := a.steps[path]
	if step == nil || !step.mayHaveRun() {
		a.fail(record, "compensated, but it has not run or is not compensatable")
		return
	}
	scope, scoped := "", a.decided
	if !a.decided {
		for _, s := range a.failedScopes {
			if strings.HasPrefix(path, s+".") {
				scope, scoped = s+".", true
			}
		}
	}
	unknownOnly := !scoped
	if unknownOnly && step.state == "done" {
		a.fail(record, "compensated, but it is done and nothing failed")
	}
	for other, s := range a.steps {
		switch {
		case !strings.HasPrefix(other, scope) || other == path:
		case s.state == "scheduled":
			a.fail(record, "compensated while step "+other+" is open")
		case parted(other, path) > 0 && s.mayHaveRun() && (!unknownOnly || s.state != "done"):
			a.fail(record, "compensated before step "+other+", which came after it")
		}
	}
	step.state = "compensating"
}

func (a *auditor) checkComplete(how string) {
	for path, step := range a.steps {
		compensatable := step.kind == treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE
		if step.state == "scheduled" || step.state == "compensating" || compensatable && step.state == "unknown" {
			a.fail(nil, how+", but step "+path+" is "+step.state)
		}
		for _, scope := range a.failedScopes {
			if strings.HasPrefix(path, scope+".") && step.mayHaveRun() {
				a.fail(nil, how+", but step "+path+" of scope "+scope+" is "+step.state)
			}
		}
	}
}

func (a *auditor) checkCompensated() {
	for path, step := range a.steps {
		switch {
		case step.mayHaveRun() || step.state == "scheduled":
			a.fail(nil, "compensated, but step "+path+" is "+step.state)
		case step.state == "done" && step.kind != treatyv1.CommandKind_COMMAND_KIND_QUERY:
			a.fail(nil, "compensated, but step "+path+", which can't be compensated, is done")
		}
	}
}

// parted compares two paths where they differ. It is positive if a comes after b in one sequence, negative if a comes
// before b, and 0 if they are in parallel branches, or one is within the other. The even elements of a path are
// positions in a sequence, the odd ones branches.
func parted(a, b string) int {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	if strings.HasPrefix(as[0], "r") {
		as = as[1:]
	}
	if strings.HasPrefix(bs[0], "r") {
		bs = bs[1:]
	}
	for i := range min(len(as), len(bs)) {
		if as[i] == bs[i] {
			continue
		}
		if i%2 == 1 {
			return 0
		}
		x, _ := strconv.Atoi(as[i])
		y, _ := strconv.Atoi(bs[i])
		return x - y
	}
	return 0
}
