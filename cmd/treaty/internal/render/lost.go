package render

import (
	"cmp"
	"strings"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

// Lost returns a table of lost sagas with their commands.
func (v *View) Lost(sagas []*treatyv1.LostSaga) string {
	if len(sagas) == 0 {
		return v.nothing("No lost sagas.")
	}
	t := newTable("NAME", "DEFINITION", "STARTED", "FOUND MISSING")
	for _, saga := range sagas {
		definition, started := cmp.Or(saga.GetDefinition(), "unknown"), "unknown"
		if saga.GetCreateTime() != nil {
			started = v.moments.distance(saga.GetCreateTime())
		}
		r := row{cells: []span{
			{saga.GetName(), bold}, {definition, plain}, {started, plain},
			{v.moments.distance(saga.GetFindTime()), dim},
		}}
		if how := lostStart(saga); how != "" {
			r.notes = append(r.notes, text(plain, "%s", how))
		}
		for _, command := range saga.GetCommands() {
			r.notes = append(r.notes, lostCommand(saga, command))
		}
		t.add(r)
	}
	return v.render(t.lines())
}

// lostStart returns how a lost saga was started, or "" if that isn't known.
func lostStart(saga *treatyv1.LostSaga) string {
	switch saga.GetStart() {
	case treatyv1.LostSagaStart_LOST_SAGA_START_REQUEST_ID:
		return "started with a request id"
	case treatyv1.LostSagaStart_LOST_SAGA_START_PARENT:
		if saga.GetParentStep() == "" {
			return "started by a parent saga"
		}
		return "started by its parent as " + saga.GetParentStep()
	case treatyv1.LostSagaStart_LOST_SAGA_START_SAGA_ID:
		return "started with a saga id"
	case treatyv1.LostSagaStart_LOST_SAGA_START_WITHOUT_ID:
		return "started without a request id"
	default:
		return ""
	}
}

// lostCommand returns what became of a command. That of the saga's parent is named in full.
func lostCommand(saga *treatyv1.LostSaga, command *treatyv1.LostCommand) line {
	direction := wire.Action
	if command.GetDirection() == treatyv1.StepDirection_STEP_DIRECTION_COMPENSATION {
		direction = wire.Compensation
	}
	step := wire.StepPath(command.GetName())
	if command.GetName() == saga.GetParentStep() {
		step = command.GetName()
	}
	out := line{
		{direction + " " + step + " ", plain},
		{strings.ReplaceAll(command.GetVerdict(), "_", " "), yellow},
		{": " + command.GetMethod() + " at " + command.GetParticipant(), plain},
	}
	if command.GetRequestDigest() != "" {
		out = append(out, span{"  " + command.GetRequestDigest(), dim})
	}
	return out
}
