package render

import (
	"github.com/treatyhq/treaty/cmd/treaty/internal/schema"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Sagas returns a table of sagas.
func (v *View) Sagas(sagas []*treatyv1.Saga) string {
	if len(sagas) == 0 {
		return v.nothing("No sagas.")
	}
	t := newTable("NAME", "DEFINITION", "STATE", "REASON", "STARTED", "CHANGED", "TOOK", "LABELS")
	for _, saga := range sagas {
		took := ""
		if saga.GetEndTime() != nil {
			took = v.moments.between(saga.GetCreateTime(), saga.GetEndTime())
		}
		t.add(row{cells: []span{
			{saga.GetName(), bold},
			{saga.GetDefinition(), plain},
			v.sagaState(saga.GetState()),
			{standstill(saga), red},
			{v.moments.distance(saga.GetCreateTime()), plain},
			{v.moments.distance(saga.GetUpdateTime()), dim},
			{took, plain},
			{labelText(saga.GetLabels()), dim},
		}})
	}
	lines := t.lines()
	if v.options.Terminal {
		for i := range lines {
			lines[i] = lines[i].trimmed().cut(v.options.Screen.Width)
		}
	}
	return v.render(lines)
}

// standstill returns why a saga stands still, as far as a list tells.
func standstill(saga *treatyv1.Saga) string {
	if saga.GetDamage() != "" {
		return "damaged"
	}
	return reasonName(saga.GetSuspension().GetReason())
}

// Definitions returns a table of saga definitions, of which there is at least one.
func (v *View) Definitions(served []schema.Definition) string {
	t := newTable("DEFINITION", "REQUEST", "REPLY", "KIND", "DEADLINE", "RETENTION")
	for _, definition := range served {
		deadline, retention := "", "--retention"
		if definition.Deadline > 0 {
			deadline = Duration(definition.Deadline)
		}
		if definition.Retention > 0 {
			retention = Duration(definition.Retention)
		}
		t.add(row{cells: []span{
			{definition.Name, bold},
			{string(definition.Method.Input().FullName()), plain},
			{string(definition.Method.Output().FullName()), plain},
			{KindName(definition.Kind), plain},
			{deadline, plain},
			{retention, plain},
		}})
	}
	return v.render(t.lines())
}

// KindName returns the name of a command's kind in lower case, or nothing if it isn't known.
func KindName(kind treatyv1.CommandKind) string {
	if kind == treatyv1.CommandKind_COMMAND_KIND_UNSPECIFIED {
		return ""
	}
	return kindName(kind)
}

// nothing returns the sentence in a terminal. Elsewhere an empty list has no text.
func (v *View) nothing(sentence string) string {
	if !v.options.Terminal {
		return ""
	}
	return v.render([]line{text(dim, "%s", sentence)})
}
