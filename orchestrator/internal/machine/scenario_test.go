package machine_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// TestScenarios runs the scenarios in testdata. A scenario holds the code of a saga, the inputs, and the output of the
// machine for each. After each input, a second machine replays the journal and must be in the same state, so every
// scenario also tests a crash after each turn. Run with -rewrite to update the outputs.
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := newScenario(t)
		defer func() { s.machine.Close() }()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.t = t
			return s.run(d)
		})
	})
}

// scenario is a saga with its contracts, its code and its journal.
type scenario struct {
	t        *testing.T
	commands map[string]*contract.Command
	code     []string
	now      time.Time
	machine  *machine.Machine
	journal  []*treatyv1.Turn
	rounds   [][]*treatyv1.Turn // the journals of earlier rounds
	skipped  uint64             // the number of turns in rounds
	unsent   []string           // the steps whose commands were certainly never sent
	seen     string             // the etag that a person has seen; empty: decisions name none
}

func newScenario(t *testing.T) *scenario {
	t.Helper()
	s := &scenario{
		t: t, commands: make(map[string]*contract.Command), now: time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC),
	}
	s.machine = s.newMachine()
	return s
}

func (s *scenario) newMachine() *machine.Machine {
	config := machine.Config{
		ID:       "x",
		Skipped:  s.skipped,
		Withdraw: func(step string) bool { return slices.Contains(s.unsent, step) },
		Event:    func(name string) (*contract.EventType, bool) { return nil, name != "Stranger" },
		Command: func(method string) (*contract.Command, bool) {
			command, known := s.commands[method]
			return command, known
		},
	}
	if s.code != nil {
		config.Code = script(s.code)
	}
	return machine.New(config)
}

func (s *scenario) run(d *datadriven.TestData) string {
	switch d.Cmd {
	case "commands":
		s.addCommands(d.Input)
		return ""
	case "code", "new-code":
		s.unsent = nil
		s.code = strings.Split(strings.TrimRight(d.Input, "\n"), "\n")
		if d.Cmd == "code" {
			s.machine.Close()
			s.journal, s.rounds, s.skipped = nil, nil, 0
			s.machine = s.newMachine()
		}
		return ""
	case "no-code":
		s.code = nil
		return ""
	case "advance":
		duration, err := time.ParseDuration(d.CmdArgs[0].Key)
		if err != nil {
			d.Fatalf(s.t, "advance: %v", err)
		}
		s.now = s.now.Add(duration)
		return ""
	case "unsent":
		// The orchestrator knows that it has never sent these commands.
		s.unsent = nil
		for _, step := range d.CmdArgs {
			s.unsent = append(s.unsent, step.Key)
		}
		return ""
	case "look":
		// From now on, a person decides about the saga as it is now.
		s.seen = machine.Etag(s.machine.Saga().Revision)
		return ""
	case "look-away":
		s.seen = ""
		return ""
	case "crash":
		s.unsent = nil
		s.machine.Close()
		s.machine = s.replayed()
		return s.apply(machine.Wake{})
	case "steps":
		return s.describeSteps()
	case "mismatch":
		again := s.replayed()
		defer again.Close()
		if mismatch := again.Mismatch(); mismatch != nil {
			return fmt.Sprintf("expected %s\nfound %s", mismatch.GetExpected(), mismatch.GetFound())
		}
		return "none"
	case "restored":
		return s.apply(s.input(d)) + "\n" + s.apply(machine.Wake{})
	default:
		return s.apply(s.input(d))
	}
}

func (s *scenario) addCommands(input string) {
	kinds := map[string]treatyv1.CommandKind{
		"compensatable": treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE,
		"pivot":         treatyv1.CommandKind_COMMAND_KIND_PIVOT,
		"retriable":     treatyv1.CommandKind_COMMAND_KIND_RETRIABLE, "query": treatyv1.CommandKind_COMMAND_KIND_QUERY,
	}
	for line := range strings.Lines(input) {
		fields := strings.Fields(line)
		command := &contract.Command{CallConfig: contract.CallConfig{Method: fields[0]}, Kind: kinds[fields[1]]}
		command.Broadcast = len(fields) > 2 && fields[2] == "broadcast"
		if fields[1] == "compensatable" {
			command.Compensation = &contract.Compensation{
				CallConfig: contract.CallConfig{Method: "Undo" + fields[0]}, ActionField: 1, ReplyField: 2,
			}
		}
		s.commands[fields[0]] = command
	}
}

func (s *scenario) input(d *datadriven.TestData) machine.Input {
	arg := ""
	if len(d.CmdArgs) > 0 {
		arg = d.CmdArgs[0].Key
	}
	decision := &treatyv1.Decision{Actor: "ann", Reason: "why not"}
	failure := &treatyv1.Failure{Code: int32(codes.FailedPrecondition), Message: "not today"}
	other := &machine.OtherCommand{Method: "Other", Digest: "0123"}
	outcomes := map[string]machine.CommandEnded{
		"done":          {Direction: machine.Action, Outcome: machine.Done, Reply: []byte("reply")},
		"refused":       {Direction: machine.Action, Outcome: machine.Refused, Failure: failure},
		"unknown":       {Direction: machine.Action, Outcome: machine.Unknown, Failure: failure},
		"accepted":      {Direction: machine.Action, Outcome: machine.Accepted, Failure: failure},
		"other-request": {Direction: machine.Action, Outcome: machine.OtherRequest, Failure: failure, Other: other},
		"purged":        {Direction: machine.Action, Outcome: machine.Purged, Failure: failure},
		"refused-in-doubt": {
			Direction: machine.Action, Outcome: machine.Refused, MayHaveRun: true, Failure: failure,
		},
		"compensation-other-request": {
			Direction: machine.Compensation, Outcome: machine.OtherRequest, Failure: failure, Other: other,
		},
		"compensation-purged":    {Direction: machine.Compensation, Outcome: machine.Purged, Failure: failure},
		"compensated":            {Direction: machine.Compensation, Outcome: machine.Done},
		"compensation-refused":   {Direction: machine.Compensation, Outcome: machine.Refused, Failure: failure},
		"compensation-exhausted": {Direction: machine.Compensation, Outcome: machine.Unknown, Failure: failure},
	}
	if ended, ok := outcomes[d.Cmd]; ok {
		ended.Step, ended.Attempts = arg, 1
		return ended
	}
	switch d.Cmd {
	case "start":
		started := &treatyv1.SagaStarted{Definition: "Test/Saga", Request: []byte("request")}
		if arg != "" {
			duration, err := time.ParseDuration(arg)
			if err != nil {
				d.Fatalf(s.t, "start: %v", err)
			}
			started.Deadline = timestamp(s.now.Add(duration))
		}
		return machine.Start{Started: started}
	case "start-child":
		kinds := map[string]treatyv1.CommandKind{
			"compensatable": treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE,
			"pivot":         treatyv1.CommandKind_COMMAND_KIND_PIVOT,
			"retriable":     treatyv1.CommandKind_COMMAND_KIND_RETRIABLE,
			"query":         treatyv1.CommandKind_COMMAND_KIND_QUERY,
		}
		started := &treatyv1.SagaStarted{
			Definition: "Test/Saga", Parent: &treatyv1.Parent{CommandId: wire.StepName("p", "1"), Kind: kinds[arg]},
		}
		undone := len(d.CmdArgs) > 1 && d.CmdArgs[1].Key == "undone"
		if len(d.CmdArgs) > 1 && !undone {
			duration, err := time.ParseDuration(d.CmdArgs[1].Key)
			if err != nil {
				d.Fatalf(s.t, "start-child: %v", err)
			}
			started.Deadline = timestamp(s.now.Add(duration))
		}
		return machine.Start{Started: started, Compensated: undone}
	case "compensate":
		return machine.CompensateForParent{}
	case "event":
		position, err := strconv.ParseUint(d.CmdArgs[2].Key, 10, 64)
		if err != nil {
			d.Fatalf(s.t, "event: %v", err)
		}
		return machine.EventReceived{
			Key: &treatyv1.EventKey{Type: arg, Subject: d.CmdArgs[1].Key},
			Event: &treatyv1.EventArrived{
				Position: position, Id: "e" + d.CmdArgs[2].Key, Source: "test", Data: []byte("data"),
			},
		}
	case "discovered":
		discovered := machine.Discovered{Path: arg}
		for _, participant := range d.CmdArgs[1:] {
			discovered.Participants = append(discovered.Participants, participant.Key)
		}
		return discovered
	case "complete", "complete-other", "complete-refused", "complete-refused-other", "complete-compensation",
		"complete-by-hand", "complete-refused-by-hand", "complete-compensation-by-hand":
		complete := machine.CommandCompleted{Step: arg, Direction: machine.Action, Outcome: machine.Done,
			Reply: []byte("later")}
		switch d.Cmd {
		case "complete-other":
			complete.Reply = []byte("other")
		case "complete-refused":
			complete.Outcome, complete.Reply, complete.Failure = machine.Refused, nil, failure
		case "complete-refused-other":
			other := &treatyv1.Failure{Code: failure.GetCode(), Message: "not tomorrow either"}
			complete.Outcome, complete.Reply, complete.Failure = machine.Refused, nil, other
		case "complete-compensation":
			complete.Direction = machine.Compensation
		case "complete-by-hand":
			complete.Decision = decision
		case "complete-refused-by-hand":
			complete.Outcome, complete.Reply, complete.Failure = machine.Refused, nil, failure
			complete.Decision = decision
		case "complete-compensation-by-hand":
			complete.Direction, complete.Decision = machine.Compensation, decision
		}
		if complete.Decision != nil {
			complete.Etag = s.seen
		}
		return complete
	case "restored":
		return machine.Restored{Record: s.restoredRecord(d.CmdArgs)}
	case "start-restored":
		return machine.Start{
			Started:  &treatyv1.SagaStarted{Definition: "Test/Saga", Request: []byte("request")},
			Restored: s.restoredRecord(d.CmdArgs),
		}
	case "stalled":
		return machine.Stalled{}
	case "cancel":
		return machine.Cancel{Decision: decision, Etag: s.seen}
	case "wake":
		return machine.Wake{}
	case "resume":
		hows := map[string]machine.ResumeAction{
			"retry": machine.Retry, "edited": machine.RetryEdited, "mark-done": machine.MarkDone,
			"mark-refused": machine.MarkRefused, "take-over": machine.TakeOver, "take-over-refusal": machine.TakeOver,
		}
		resume := machine.Resume{Decision: decision, Etag: s.seen, Action: hows[arg], Payload: []byte("by hand")}
		if resume.Action == machine.TakeOver {
			resume.Digest = "0123"
		}
		if arg == "take-over-refusal" {
			resume.Refusal = failure
		}
		return resume
	}
	d.Fatalf(s.t, "unknown directive %q", d.Cmd)
	return nil
}

// restoredRecord returns what participants know: "2=B" is the action B of step 2, "undo-2=B" its compensation. The
// backup was made an hour ago. "contradiction" and "compensated" set these fields, "unlisted" and "later-reason" the
// reason of a contradiction, too.
func (s *scenario) restoredRecord(args []datadriven.CmdArg) *treatyv1.SagaRestored {
	record := &treatyv1.SagaRestored{
		BackupTime: timestamp(s.now.Add(-time.Hour)), RestoreTime: timestamp(s.now),
	}
	for _, arg := range args {
		switch arg.Key {
		case "contradiction":
			record.Contradiction = "the journal says one thing, the participant another"
		case "unlisted":
			record.Contradiction = "a participant can't say what was executed"
			record.ContradictionReason = treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_UNLISTED
		case "later-reason":
			record.Contradiction = "a later version says why"
			record.ContradictionReason = 99
		case "compensated":
			record.Compensated = true
		default:
			step, undo := strings.CutPrefix(arg.Key, "undo-")
			record.Commands = append(record.Commands, &treatyv1.RestoredCommand{
				Step: step, Compensation: undo, Method: arg.Vals[0], HasEffect: !undo, Participant: "p.P",
			})
		}
	}
	return record
}

func (s *scenario) apply(in machine.Input) string {
	out, err := s.machine.Apply(s.now, in)
	var lines []string
	if err != nil {
		lines = append(lines, "error: "+err.Error())
	}
	if out.NewRound {
		s.skipped += uint64(len(s.journal))
		s.rounds = append(s.rounds, s.journal)
		s.journal = nil
		lines = append(lines, "new journal:")
	}
	if out.Turn != nil {
		s.journal = append(s.journal, stored(s.t, out.Turn))
		for _, record := range out.Turn.GetRecords() {
			lines = append(lines, describe(record))
		}
	}
	for _, effect := range out.Effects {
		lines = append(lines, describeEffect(effect))
	}
	if len(lines) == 0 {
		lines = append(lines, "nothing")
	}
	lines = append(lines, stateName(s.machine.Saga().State))
	if s.machine.Stalled() {
		lines = append(lines, "stalled")
	}
	if out.Reload {
		s.machine.Close()
		s.machine = s.replayed()
		lines = append(lines, "reloaded:", s.apply(machine.Wake{}))
		return strings.Join(lines, "\n")
	}
	if due := s.machine.Due(); s.machine.Waiting() {
		line := "waiting"
		if !due.IsZero() {
			line += " until " + due.Format("02 15:04:05")
		}
		lines = append(lines, line)
	}
	s.sameAfterCrash()
	s.decisionsAreAccepted()
	if out.WakeAgain {
		lines = append(lines, "again:", s.apply(machine.Wake{}))
	}
	return strings.Join(lines, "\n")
}

// replayed returns a machine that has replayed the journal.
func (s *scenario) replayed() *machine.Machine {
	m := s.newMachine()
	for _, turn := range s.journal {
		if err := m.Replay(turn); err != nil {
			s.t.Fatalf("replaying: %v", err)
		}
	}
	return m
}

// sameAfterCrash checks that a machine that replays the journal is in the same state as this one, and that folding it
// without code gives the same saga.
func (s *scenario) sameAfterCrash() {
	s.t.Helper()
	if len(s.journal) == 0 {
		return
	}
	again := s.replayed()
	defer again.Close()
	same := cmp.Options{
		protocmp.Transform(), cmpopts.IgnoreUnexported(machine.Saga{}, machine.Step{}), cmpopts.EquateEmpty(),
	}
	if diff := cmp.Diff(s.machine.Saga(), again.Saga(), same); diff != "" {
		s.t.Errorf("after a crash the saga differs (-live +replayed):\n%s", diff)
	}
	if diff := cmp.Diff(effects(s.machine), effects(again)); diff != "" {
		s.t.Errorf("after a crash other effects are pending (-live +replayed):\n%s", diff)
	}
	folded := &machine.Saga{ID: "x", Turns: s.skipped}
	for _, turn := range s.journal {
		if err := folded.Fold(turn); err != nil {
			s.t.Fatalf("folding: %v", err)
		}
	}
	if diff := cmp.Diff(s.machine.Saga(), folded, same); diff != "" {
		s.t.Errorf("folded without code the saga differs (-live +folded):\n%s", diff)
	}
	reason := s.machine.Saga().Suspension.GetReason()
	if reason != treatyv1.SuspensionReason_SUSPENSION_REASON_MISMATCH {
		if mismatch := again.Mismatch(); mismatch != nil {
			s.t.Errorf("after a crash the code doesn't match its own journal: %s", mismatch.GetMessage())
		}
		if diff := cmp.Diff(s.machine.DescribeCode(), again.DescribeCode()); diff != "" && !s.machine.Saga().Final() {
			s.t.Errorf("after a crash the code is in another state (-live +replayed):\n%s", diff)
		}
	}
	if before := s.machine.Waiting(); again.Waiting() != before {
		s.t.Errorf("after a crash the saga is waiting: %v, before: %v", !before, before)
	}
	if !again.Due().Equal(s.machine.Due()) {
		s.t.Errorf("after a crash the saga is due at %v, before at %v", again.Due(), s.machine.Due())
	}
}

// decisionsAreAccepted checks that the machine accepts each decision that the saga offers, and no other one.
func (s *scenario) decisionsAreAccepted() {
	s.t.Helper()
	if len(s.journal) == 0 {
		return
	}
	decision := &treatyv1.Decision{Actor: "ann", Reason: "why not"}
	inputs := map[treatyv1.DecisionKind]machine.Input{
		treatyv1.DecisionKind_DECISION_KIND_CANCEL: machine.Cancel{Decision: decision},
	}
	for kind, action := range map[treatyv1.DecisionKind]machine.ResumeAction{
		treatyv1.DecisionKind_DECISION_KIND_RETRY:        machine.Retry,
		treatyv1.DecisionKind_DECISION_KIND_RETRY_EDITED: machine.RetryEdited,
		treatyv1.DecisionKind_DECISION_KIND_MARK_DONE:    machine.MarkDone,
		treatyv1.DecisionKind_DECISION_KIND_MARK_REFUSED: machine.MarkRefused,
		treatyv1.DecisionKind_DECISION_KIND_TAKE_OVER:    machine.TakeOver,
	} {
		inputs[kind] = machine.Resume{Decision: decision, Action: action, Payload: []byte("by hand")}
	}
	before := s.replayed()
	defer before.Close()
	saga := before.Saga()
	for _, step := range saga.Steps {
		switch step.State {
		case treatyv1.StepState_STEP_STATE_SCHEDULED:
			inputs[treatyv1.DecisionKind_DECISION_KIND_COMPLETE] = machine.CommandCompleted{
				Step: step.Path(), Direction: machine.Action, Outcome: machine.Done, Decision: decision,
			}
		case treatyv1.StepState_STEP_STATE_COMPENSATING:
			inputs[treatyv1.DecisionKind_DECISION_KIND_COMPLETE] = machine.CommandCompleted{
				Step: step.Path(), Direction: machine.Compensation, Outcome: machine.Done, Decision: decision,
			}
		}
	}
	offered := saga.Decisions(func(step string) bool { return slices.Contains(s.unsent, step) })
	for kind, input := range inputs {
		if kind == treatyv1.DecisionKind_DECISION_KIND_COMPLETE && saga.Suspension != nil {
			continue // what the participant itself says is taken, but a person decides about the suspension
		}
		again := s.replayed()
		out, err := again.Apply(s.now, input)
		again.Close()
		accepted := err == nil && out.Turn != nil // a cancel of a saga that is cancelled changes nothing
		if slices.Contains(offered, kind) != accepted {
			s.t.Errorf("the saga is %s (%s) and offers %v, but the machine accepts %s: %v (%v)", stateName(saga.State),
				saga.Suspension.GetReason(), offered, kind, accepted, err)
		}
	}
	for _, kind := range offered {
		if inputs[kind] == nil {
			s.t.Errorf("the saga offers %s, for which there is no step", kind)
		}
	}
}

// stored serializes a turn and reads it again, as a store does.
func stored(t *testing.T, turn *treatyv1.Turn) *treatyv1.Turn {
	t.Helper()
	data, err := proto.Marshal(turn)
	if err != nil {
		t.Fatal(err)
	}
	again := new(treatyv1.Turn)
	if err := proto.Unmarshal(data, again); err != nil {
		t.Fatal(err)
	}
	return again
}

func effects(m *machine.Machine) map[string]bool {
	set := make(map[string]bool)
	for _, effect := range m.PendingEffects() {
		set[describeEffect(effect)] = true
	}
	return maps.Clone(set)
}
