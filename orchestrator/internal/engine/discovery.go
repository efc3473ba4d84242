package engine

import (
	"strings"

	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// discovery is a broadcast that waits until all configured participants have said which services they serve.
type discovery struct {
	method string
	silent []string // the participants that haven't said so yet
	cancel func()
}

// discover finds the participants of a broadcast. The caller holds the lock of the instance and runs it.
func (s *sender) discover(inst *instance, wanted *machine.Discover) {
	if earlier := inst.discoveries[wanted.Path]; earlier != nil {
		earlier.cancel()
		delete(inst.discoveries, wanted.Path)
	}
	service, _, _ := strings.Cut(wanted.Method, "/")
	found, cancel := s.config.Dispatcher.Discover(service, func() {
		s.work.spawn(func() {
			inst.mu.Lock()
			delete(inst.discoveries, wanted.Path)
			inst.mu.Unlock()
			s.driver.deliver(inst.id, machine.Wake{})
		})
	})
	if found.Known {
		inst.mailbox = append(inst.mailbox, message{
			input: machine.Discovered{Path: wanted.Path, Participants: found.Participants},
		})
		return
	}
	s.config.Logger.Warn("a broadcast waits until every configured participant has said which services it serves",
		"saga", inst.name, "service", service)
	if inst.discoveries == nil {
		inst.discoveries = make(map[string]*discovery)
	}
	inst.discoveries[wanted.Path] = &discovery{method: wanted.Method, silent: found.Unanswered, cancel: cancel}
}
