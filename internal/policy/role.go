package policy

import (
	"slices"

	"github.com/treatyhq/treaty/orchestrator/access"
)

// The roles that need no definition. An own role can't have one of these names.
var readyRoles = map[string][]access.Action{
	"starter":      {access.Start, access.Read},
	"viewer":       {access.Read},
	"operator":     {access.Read, access.Cancel, access.Resume},
	"participant":  {access.Complete, access.Publish, access.Consume},
	"orchestrator": {access.UndoChild},
	instanceRole:   access.Actions(),
}

// instanceRole is the role of the instances of one cluster, which make calls for everybody. It needs no resources.
const instanceRole = "instance"

// actionSet is a set of actions, by their index in access.Actions.
type actionSet uint32

var actions = access.Actions()

func (s actionSet) has(action int) bool { return s&(1<<action) != 0 }

// indexOf returns the index of an action, or -1.
func indexOf(action access.Action) int { return slices.Index(actions, action) }

// A resource is a kind of resources that a grant lists, by its key in the file.
type resource string

const (
	definitions resource = "definitions"
	methods     resource = "methods"
	events      resource = "events"
	sources     resource = "sources"
	consumers   resource = "consumers"
)

var resources = []resource{definitions, methods, events, sources, consumers}

// needs returns the lists of resources that a grant of an action has: all of one of the results.
func needs(action access.Action) [][]resource {
	switch action {
	case access.Start, access.Read, access.Cancel, access.Resume, access.UndoChild:
		return [][]resource{{definitions}}
	case access.Complete:
		return [][]resource{{methods}}
	case access.Publish:
		return [][]resource{{events, sources}}
	case access.Consume:
		return [][]resource{{events, consumers}}
	case access.ReadSecrets:
		return [][]resource{{definitions}, {events}}
	case access.Administer:
	}
	return [][]resource{{}}
}
