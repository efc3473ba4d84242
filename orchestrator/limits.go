package orchestrator

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/admission"
	"github.com/treatyhq/treaty/orchestrator/internal/dispatch"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

// DefaultMaxInFlight is how many commands are in flight to a participant at most, unless its limits say otherwise.
const DefaultMaxInFlight = admission.DefaultCeiling

// ParticipantLimits limit what is sent to a participant.
type ParticipantLimits struct {
	// InFlight is how many commands are in flight at most. How many it really are adapts itself to how long the
	// participant takes to answer. Commands that it holds on purpose, because they take long, count for themselves.
	// Default DefaultMaxInFlight.
	InFlight int

	// PerSecond is how many commands are sent per second at most. Default no limit.
	PerSecond float64
}

// WithParticipantLimits limits what is sent to the participant that serves a service.
func WithParticipantLimits(service string, limits ParticipantLimits) Option {
	return func(s *settings) {
		if s.participantLimits == nil {
			s.participantLimits = make(map[string]ParticipantLimits)
		}
		s.participantLimits[service] = limits
	}
}

// StartLimits limit the sagas of a definition. A start beyond them is refused with RESOURCE_EXHAUSTED, and nothing is
// recorded. Child sagas aren't limited.
type StartLimits struct {
	// Open is how many sagas may be open at the same time, including those that only wait. Default no limit.
	Open int

	// PerSecond is how many sagas may be started per second. Default no limit.
	PerSecond float64
}

// WithStartLimits limits the sagas of a definition, e.g. "acme.card.v1.CardSagas/IssueCard".
func WithStartLimits(definition string, limits StartLimits) Option {
	return func(s *settings) {
		if s.starts.Definitions == nil {
			s.starts.Definitions = make(map[string]engine.DefinitionLimit)
		}
		s.starts.Definitions[definition] = engine.DefinitionLimit(limits)
	}
}

// WithLabelLimit limits how many sagas with the same value of a label may be open at the same time. With a label for
// the customer, no customer can take the places of all others. A start beyond it is refused with RESOURCE_EXHAUSTED,
// and nothing is recorded.
func WithLabelLimit(label string, open int) Option {
	return func(s *settings) {
		if s.starts.Labels == nil {
			s.starts.Labels = make(map[string]int)
		}
		s.starts.Labels[label] = open
	}
}

// limit sets the limits of the participant that serves a service.
func limit(participants []dispatch.Participant, service string, limits ParticipantLimits) error {
	i := serving(participants, service)
	if i < 0 {
		return fmt.Errorf("limits of %s are set, but no participant is configured for it", service)
	}
	if limits.InFlight < 0 || limits.PerSecond < 0 {
		return fmt.Errorf("a limit of the participant of %s is negative: want more than 0, or 0 for the default",
			service)
	}
	participants[i].MaxInFlight, participants[i].MaxPerSecond = limits.InFlight, limits.PerSecond
	return nil
}

// checkStarts returns what is wrong with the limits of starts.
func (s *settings) checkStarts(catalog *contract.Catalog) error {
	var errs []error
	labels := make(map[string]bool)
	for definition := range catalog.SagaDefinitions() {
		for _, field := range definition.Labels {
			labels[string(field.Name())] = true
		}
	}
	for name, limits := range s.starts.Definitions {
		if _, known := catalog.SagaDefinition(name); !known {
			errs = append(errs, fmt.Errorf("starts of %s are limited, but no linked contract has such a saga", name))
		}
		if limits.Open < 0 || limits.PerSecond < 0 {
			errs = append(errs, fmt.Errorf("a limit of the starts of %s is negative: want more than 0, or 0 for none",
				name))
		}
	}
	for name, open := range s.starts.Labels {
		if !labels[name] {
			errs = append(errs, fmt.Errorf("open sagas are limited by the label %s, but no saga of a linked contract "+
				"has it", name))
		}
		if open <= 0 {
			errs = append(errs, fmt.Errorf("the limit of open sagas by the label %s is %d: want more than 0", name,
				open))
		}
	}
	return errors.Join(errs...)
}

// maxPerSecond is the highest rate that a flag accepts.
const maxPerSecond = 1e9

// limitFlag collects NAME=LIMIT[,LIMIT]. A limit is a number, or one per second such as 50/s.
type limitFlag struct {
	limits map[string]limits
	rates  bool // a limit may be one per second
}

// limits are what a limitFlag says about a name.
type limits struct {
	number    int
	perSecond float64
}

// String returns nothing: help shows no default.
func (f *limitFlag) String() string { return "" }

// Type returns the name of the type.
func (f *limitFlag) Type() string { return "limit" }

// Set adds the limits of one name.
func (f *limitFlag) Set(text string) error {
	want := "want NAME=NUMBER"
	if f.rates {
		want = "want NAME=NUMBER, NAME=NUMBER/s or both, for example acme.card.v1.CardService=200,50/s"
	}
	name, rest, ok := strings.Cut(text, "=")
	if name = strings.TrimSpace(name); !ok || name == "" || rest == "" {
		return fmt.Errorf("%q limits nothing: %s", text, want)
	}
	var parsed limits
	for part := range strings.SplitSeq(rest, ",") {
		part = strings.TrimSpace(part)
		rate, is := strings.CutSuffix(part, "/s")
		var err error
		if is && f.rates {
			parsed.perSecond, err = strconv.ParseFloat(rate, 64)
		} else {
			parsed.number, err = strconv.Atoi(part)
		}
		if err != nil || parsed.number < 0 || parsed.perSecond < 0 || parsed.perSecond > maxPerSecond ||
			math.IsNaN(parsed.perSecond) {
			return fmt.Errorf("%q isn't a limit of %s: %s", part, name, want)
		}
	}
	if f.limits == nil {
		f.limits = make(map[string]limits)
	}
	f.limits[name] = parsed
	return nil
}

// limitOptions returns the limits of the flags as options of New.
func (f *flags) limitOptions() []Option {
	var options []Option
	for _, service := range slices.Sorted(maps.Keys(f.participantLimits.limits)) {
		l := f.participantLimits.limits[service]
		options = append(options, WithParticipantLimits(service, ParticipantLimits{
			InFlight: l.number, PerSecond: l.perSecond,
		}))
	}
	for _, definition := range slices.Sorted(maps.Keys(f.startLimits.limits)) {
		l := f.startLimits.limits[definition]
		options = append(options, WithStartLimits(definition, StartLimits{Open: l.number, PerSecond: l.perSecond}))
	}
	for _, label := range slices.Sorted(maps.Keys(f.labelLimits.limits)) {
		options = append(options, WithLabelLimit(label, f.labelLimits.limits[label].number))
	}
	return options
}
