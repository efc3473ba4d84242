package engine

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// knownCommand is a command that a participant knows.
type knownCommand struct {
	*treatyv1.KnownCommand

	participant, saga, path string
}

func (c knownCommand) compensation() bool {
	return c.GetDirection() == treatyv1.StepDirection_STEP_DIRECTION_COMPENSATION
}

// executed returns whether the command had an effect.
func (c knownCommand) executed() bool {
	return c.GetVerdict() == treatyv1.CommandVerdict_COMMAND_VERDICT_EXECUTED ||
		c.GetVerdict() == treatyv1.CommandVerdict_COMMAND_VERDICT_ACCEPTED
}

func (c knownCommand) lost() journal.LostCommand {
	lost := journal.LostCommand{
		CommandID: c.GetCommandId(), Participant: c.participant, Method: c.GetMethod(), Digest: c.GetRequestDigest(),
		Compensation: c.compensation(), Verdict: int32(c.GetVerdict()),
	}
	if start := c.GetSagaStart(); start != nil {
		lost.Start = start.AsTime()
	}
	return lost
}

// comparer compares journals with what participants know.
type comparer struct {
	catalog *contract.Catalog

	// backup and restore are the times of the backup and of the restoration.
	backup, restore time.Time

	// nameOf returns the name of the participant to which commands for a destination go.
	nameOf func(to Destination) string

	// participants are the participants that were asked, and untrusted the names of those that can't say what they
	// know.
	participants []ParticipantState
	untrusted    []string
}

// comparison compares a saga's journal with what its participants know.
type comparison struct {
	*comparer

	saga          *machine.Saga
	actions       map[string]knownCommand
	compensations map[string]knownCommand
	paths         []string // of both, sorted
	record        *treatyv1.SagaRestored
}

// compare returns what a saga's participants know that its journal doesn't hold.
func (r *comparer) compare(saga *machine.Saga, known []knownCommand) *treatyv1.SagaRestored {
	c := &comparison{
		comparer: r, saga: saga,
		actions: make(map[string]knownCommand), compensations: make(map[string]knownCommand),
		record: &treatyv1.SagaRestored{
			BackupTime: timestamppb.New(r.backup), RestoreTime: timestamppb.New(r.restore),
		},
	}
	for _, command := range known {
		c.add(command)
	}
	slices.Sort(c.paths)
	c.paths = slices.Compact(c.paths)
	c.compareSteps()
	c.compareCommands()
	c.checkUntrusted()
	return c.record
}

// add adds a command that counts. A query changes nothing, a closed action never arrived, and what happened before a
// restart is over.
func (c *comparison) add(command knownCommand) {
	if called, known := c.catalog.Command(command.GetMethod()); known &&
		called.Kind == treatyv1.CommandKind_COMMAND_KIND_QUERY {
		return
	}
	if command.GetVerdict() == treatyv1.CommandVerdict_COMMAND_VERDICT_CLOSED ||
		machine.RoundOf(command.path) < c.saga.Round {
		return
	}
	c.paths = append(c.paths, command.path)
	if command.compensation() {
		c.compensations[command.path] = command
		return
	}
	// Several inboxes of one participant may know the action. The one that executed it wins.
	if before, twice := c.actions[command.path]; !twice || !before.executed() {
		c.actions[command.path] = command
	}
}

func (c *comparison) contradict(format string, args ...any) {
	if c.record.Contradiction == "" {
		c.record.Contradiction = fmt.Sprintf(format, args...)
	}
}

// compareSteps looks for steps in the journal of which the participants say something else.
func (c *comparison) compareSteps() {
	for _, step := range c.saga.Steps {
		path, method := step.Path(), step.Scheduled.GetMethod()
		action, acted := c.actions[path]
		_, undone := c.compensations[path]
		byHand := step.Decision != nil
		switch step.State {
		case treatyv1.StepState_STEP_STATE_DONE:
			switch {
			case byHand || step.Scheduled.GetKind() == treatyv1.CommandKind_COMMAND_KIND_QUERY:
			case !acted && c.kept(step, method):
				c.contradict("the journal says that step %s (%s) is done, but the participant doesn't know it", path,
					method)
			case acted && !action.executed():
				c.contradict("the journal says that step %s (%s) is done, but the participant has refused it", path,
					method)
			}
		case treatyv1.StepState_STEP_STATE_REFUSED:
			if acted && action.executed() && !undone && !step.MayHaveRun && !byHand {
				c.contradict("the journal says that step %s (%s) was not executed, but the participant has executed it",
					path,
					method)
			}
		case treatyv1.StepState_STEP_STATE_COMPENSATED:
			compensation := step.Scheduled.GetCompensation().GetMethod()
			if !undone && !byHand && c.kept(step, compensation) {
				c.contradict("the journal says that step %s (%s) was compensated, but the participant doesn't know "+
					"that", path,
					method)
			}
		}
	}
}

// kept returns whether the participant of a step keeps what became of commands for a method.
func (c *comparison) kept(step *machine.Step, method string) bool {
	name := c.nameOf(Destination{
		Method: method, Participant: step.Scheduled.GetParticipant(),
	})
	for _, p := range c.participants {
		if p.Name == name {
			_, kept := slices.BinarySearch(p.KeptMethods, method)
			return p.Lists && kept
		}
	}
	return false
}

// compareCommands looks for commands that participants have answered and whose answers the journal doesn't hold. If all
// that was done was undone, the saga had been compensated. If only a part was undone, it or a scope of it was being
// compensated: the saga's code runs again, and has to fail as it did before.
func (c *comparison) compareCommands() {
	undone := false
	for _, path := range c.paths {
		step := c.saga.Step(path)
		_, undoneHere := c.compensations[path]
		if action, acted := c.actions[path]; acted &&
			(step == nil || step.State == treatyv1.StepState_STEP_STATE_SCHEDULED) {
			c.record.Commands = append(c.record.Commands, action.restored(action.executed() && !undoneHere))
		}
		if !undoneHere || step != nil && step.State == treatyv1.StepState_STEP_STATE_COMPENSATED {
			continue
		}
		undone = true
		if c.saga.CompensationDecided != nil || step != nil &&
			(step.State == treatyv1.StepState_STEP_STATE_COMPENSATING ||
				step.State == treatyv1.StepState_STEP_STATE_DONE) {
			c.record.Commands = append(c.record.Commands, c.compensations[path].restored(false))
		}
	}
	c.record.Compensated = undone && c.saga.CompensationDecided == nil && !c.stands()
}

func (c knownCommand) restored(effect bool) *treatyv1.RestoredCommand {
	return &treatyv1.RestoredCommand{
		Step: c.path, Compensation: c.compensation(), Method: c.GetMethod(), RequestDigest: c.GetRequestDigest(),
		HasEffect: effect, Participant: c.participant,
	}
}

// stands returns whether an action was executed and isn't known to be undone.
func (c *comparison) stands() bool {
	for _, path := range c.paths {
		if _, undone := c.compensations[path]; !undone && c.actions[path].KnownCommand != nil &&
			c.actions[path].executed() {
			return true
		}
	}
	for _, step := range c.saga.Steps {
		_, undone := c.compensations[step.Path()]
		if !undone && step.State == treatyv1.StepState_STEP_STATE_DONE &&
			step.Scheduled.GetKind() != treatyv1.CommandKind_COMMAND_KIND_QUERY {
			return true
		}
	}
	return false
}

// checkUntrusted contradicts the journal of a saga that may have sent commands to participants that can't say what they
// know. A saga that compensates sends commands only to the participants of its steps.
func (c *comparison) checkUntrusted() {
	var asked []string
	for _, name := range c.untrusted {
		if c.saga.CompensationDecided == nil || slices.ContainsFunc(c.saga.Steps, func(step *machine.Step) bool {
			return name == c.nameOf(Destination{
				Method: step.Scheduled.GetMethod(), Participant: step.Scheduled.GetParticipant(),
			})
		}) {
			asked = append(asked, name)
		}
	}
	if len(asked) > 0 && c.record.Contradiction == "" {
		c.record.ContradictionReason = treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_UNLISTED
		c.contradict("it may have sent commands to %s since the backup, which can't say what was executed",
			strings.Join(asked, ", "))
	}
}
