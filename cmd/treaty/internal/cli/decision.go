package cli

import (
	"strings"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// etagHelp describes the flag --etag of a decision.
const etagHelp = "decide only if the saga hasn't changed since its `ETAG` was read, which treaty sagas get shows"

// decision returns who decides and why. The journal keeps both. With a client certificate, the orchestrator takes the
// actor from that.
func (a *app) decision(reason string) (*treatyv1.Decision, error) {
	reason = strings.TrimSpace(reason)
	if reason == "" {
		return nil, problem.Usage("a decision needs a reason, which is kept in the journal",
			"Give the reason with --reason.")
	}
	if strings.TrimSpace(a.flags.actor) == "" && a.flags.connection.CertFile == "" {
		return nil, problem.Usage("a decision needs an actor, who is kept in the journal",
			"Name the actor with --actor, or set --tls-cert and --tls-key.")
	}
	return &treatyv1.Decision{Actor: a.flags.actor, Reason: reason}, nil
}
