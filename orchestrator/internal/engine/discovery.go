package engine

import (
	"strings"

	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// discover finds the participants of a broadcast. If the configuration names none, the broadcast waits, and loses
// nothing, until an orchestrator is started with some. The caller holds the lock of the instance and runs it.
func (s *sender) discover(inst *instance, wanted *machine.Discover) {
	service, _, _ := strings.Cut(wanted.Method, "/")
	if names := s.config.Dispatcher.TakingPart(service); len(names) > 0 {
		inst.put(message{input: machine.Discovered{Path: wanted.Path, Participants: names}})
		return
	}
	if _, known := inst.unserved[wanted.Path]; known {
		return
	}
	s.config.Logger.Error("a broadcast waits, because no participant takes part in it: start the orchestrator with "+
		"those that do, such as --broadcast "+service+"=PARTICIPANT", "saga", inst.name, "service", service)
	if inst.unserved == nil {
		inst.unserved = make(map[string]string)
	}
	inst.unserved[wanted.Path] = wanted.Method
}
