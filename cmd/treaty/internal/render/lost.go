package render

import (
	"strings"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

// Lost returns a table of lost sagas with their commands.
func (v *View) Lost(sagas []*treatyv1.LostSaga) string {
	if len(sagas) == 0 {
		return v.nothing("No lost sagas.")
	}
	t := newTable("NAME", "STARTED", "FOUND MISSING")
	for _, saga := range sagas {
		started := "unknown"
		if saga.GetCreateTime() != nil {
			started = v.moments.distance(saga.GetCreateTime())
		}
		r := row{cells: []span{
			{saga.GetName(), bold}, {started, plain}, {v.moments.distance(saga.GetFindTime()), dim},
		}}
		for _, command := range saga.GetCommands() {
			r.notes = append(r.notes, lostCommand(command))
		}
		t.add(r)
	}
	return v.render(t.lines())
}

// lostCommand returns what became of a command.
func lostCommand(command *treatyv1.LostCommand) line {
	direction := wire.Action
	if command.GetDirection() == treatyv1.StepDirection_STEP_DIRECTION_COMPENSATION {
		direction = wire.Compensation
	}
	out := line{
		{direction + " " + wire.StepPath(command.GetName()) + " ", plain},
		{strings.ReplaceAll(command.GetVerdict(), "_", " "), yellow},
		{": " + command.GetMethod() + " at " + command.GetParticipant(), plain},
	}
	if command.GetRequestDigest() != "" {
		out = append(out, span{"  " + command.GetRequestDigest(), dim})
	}
	return out
}
