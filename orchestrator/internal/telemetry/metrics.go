package telemetry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// metrics holds the instruments. It is nil while metrics are off.
type metrics struct {
	meter metric.Meter

	sagasStarted, sagasEnded, sagasSuspended, attempts metric.Int64Counter

	sagaDuration, attemptDuration, commitDuration metric.Float64Histogram

	commitGroupSize metric.Int64Histogram

	breakerOpen, driving metric.Int64Gauge

	codeLeft metric.Int64UpDownCounter

	// sets caches attribute sets. There are a few for each method and definition.
	mu   sync.RWMutex
	sets map[setKey]metric.MeasurementOption
}

// setKey is one attribute, or two.
type setKey struct {
	key    attribute.Key
	value  string
	key2   attribute.Key
	value2 string
}

var (
	attemptBounds = []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30}
	sagaBounds    = []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60, 300, 3600, 86400}
	commitBounds  = []float64{.0001, .0002, .0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1}
	groupBounds   = []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}
)

func newMetrics(meter metric.Meter) (*metrics, error) {
	m := &metrics{meter: meter, sets: map[setKey]metric.MeasurementOption{}}
	var errs [11]error
	m.sagasStarted, errs[0] = meter.Int64Counter(metricSagasStarted,
		metric.WithUnit("{saga}"), metric.WithDescription("Sagas that were started."))
	m.sagasEnded, errs[1] = meter.Int64Counter(metricSagasEnded,
		metric.WithUnit("{saga}"), metric.WithDescription("Sagas that reached their final state."))
	m.sagasSuspended, errs[2] = meter.Int64Counter(metricSagasSuspended,
		metric.WithUnit("{saga}"), metric.WithDescription("Times that a saga was suspended and waits for an operator."))
	m.attempts, errs[3] = meter.Int64Counter(metricAttempts,
		metric.WithUnit("{attempt}"), metric.WithDescription("gRPC calls made to participants."))
	m.sagaDuration, errs[4] = meter.Float64Histogram(metricSagaDuration,
		metric.WithUnit("s"), metric.WithDescription("From a saga's start to its final state."),
		metric.WithExplicitBucketBoundaries(sagaBounds...))
	m.attemptDuration, errs[5] = meter.Float64Histogram(metricAttemptDuration,
		metric.WithUnit("s"), metric.WithDescription("Duration of one gRPC call to a participant."),
		metric.WithExplicitBucketBoundaries(attemptBounds...))
	m.commitDuration, errs[6] = meter.Float64Histogram(metricCommitDuration,
		metric.WithUnit("s"), metric.WithDescription("Duration of one commit to the journal."),
		metric.WithExplicitBucketBoundaries(commitBounds...))
	m.commitGroupSize, errs[7] = meter.Int64Histogram(metricCommitGroupSize,
		metric.WithUnit("{turn}"), metric.WithDescription("Turns committed at once."),
		metric.WithExplicitBucketBoundaries(groupBounds...))
	m.breakerOpen, errs[8] = meter.Int64Gauge(metricBreakerOpen,
		metric.WithUnit("1"), metric.WithDescription("1 while the participant's breaker is open, else 0."))
	m.driving, errs[9] = meter.Int64Gauge(metricDriving,
		metric.WithUnit("1"), metric.WithDescription("1 while the orchestrator drives sagas, else 0."))
	m.codeLeft, errs[10] = meter.Int64UpDownCounter(metricCodeLeft,
		metric.WithUnit("{goroutine}"),
		metric.WithDescription("Goroutines of saga code that blocks, which were left behind and haven't ended."))
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("telemetry: creating the metrics: %w", err)
	}
	return m, nil
}

// set returns the attribute set of one or two attributes.
func (m *metrics) set(k setKey) metric.MeasurementOption {
	m.mu.RLock()
	option, ok := m.sets[k]
	m.mu.RUnlock()
	if ok {
		return option
	}
	attributes := []attribute.KeyValue{k.key.String(k.value)}
	if k.key2 != "" {
		attributes = append(attributes, k.key2.String(k.value2))
	}
	option = metric.WithAttributeSet(attribute.NewSet(attributes...))
	m.mu.Lock()
	m.sets[k] = option
	m.mu.Unlock()
	return option
}

// SagaStarted counts a saga whose start was committed.
func (t *Telemetry) SagaStarted(definition string) {
	if !t.Metering() {
		return
	}
	t.metrics.sagasStarted.Add(context.Background(), 1, t.metrics.set(setKey{key: keyDefinition, value: definition}))
}

// SagaEnded records a saga that reached its final state, and its duration.
func (t *Telemetry) SagaEnded(definition string, state treatyv1.SagaState, took time.Duration) {
	if !t.Metering() {
		return
	}
	set := t.metrics.set(setKey{key: keyDefinition, value: definition, key2: keyState, value2: stateName(state)})
	t.metrics.sagasEnded.Add(context.Background(), 1, set)
	t.metrics.sagaDuration.Record(context.Background(), took.Seconds(), set)
}

// SagaSuspended counts a suspension of a saga.
func (t *Telemetry) SagaSuspended(reason treatyv1.SuspensionReason) {
	if !t.Metering() {
		return
	}
	name := strings.TrimPrefix(reason.String(), "SUSPENSION_REASON_")
	t.metrics.sagasSuspended.Add(context.Background(), 1, t.metrics.set(setKey{key: keyReason, value: name}))
}

// AttemptEnded records a gRPC call to a participant, and its duration.
func (t *Telemetry) AttemptEnded(method string, outcome treatyv1.Outcome, took time.Duration) {
	if !t.Metering() {
		return
	}
	set := t.metrics.set(setKey{key: "rpc.method", value: method, key2: keyOutcome, value2: outcomeName(outcome)})
	t.metrics.attempts.Add(context.Background(), 1, set)
	t.metrics.attemptDuration.Record(context.Background(), took.Seconds(), set)
}

// Committed records a commit of a group of turns, and its duration.
func (t *Telemetry) Committed(turns int, took time.Duration) {
	if !t.Metering() {
		return
	}
	t.metrics.commitGroupSize.Record(context.Background(), int64(turns))
	t.metrics.commitDuration.Record(context.Background(), took.Seconds())
}

// BreakerOpened records that a participant's breaker opened.
func (t *Telemetry) BreakerOpened(target string) { t.breaker(target, 1) }

// BreakerClosed records that a participant's breaker closed.
func (t *Telemetry) BreakerClosed(target string) { t.breaker(target, 0) }

func (t *Telemetry) breaker(target string, value int64) {
	if !t.Metering() {
		return
	}
	t.metrics.breakerOpen.Record(context.Background(), value, t.metrics.set(setKey{key: keyTarget, value: target}))
}

// CodeLeft counts a goroutine of saga code that was left behind, because the code blocks.
func (t *Telemetry) CodeLeft() { t.countCodeLeft(1) }

// CodeEnded counts such a goroutine no longer, because it has ended.
func (t *Telemetry) CodeEnded() { t.countCodeLeft(-1) }

func (t *Telemetry) countCodeLeft(change int64) {
	if t.Metering() {
		t.metrics.codeLeft.Add(context.Background(), change)
	}
}

// DrivingBegan records that the orchestrator drives sagas.
func (t *Telemetry) DrivingBegan() { t.drives(1) }

// DrivingEnded records that the orchestrator drives no sagas: its store is compared with the participants after a
// restore, or it was replaced.
func (t *Telemetry) DrivingEnded() { t.drives(0) }

func (t *Telemetry) drives(value int64) {
	if t.Metering() {
		t.metrics.driving.Record(context.Background(), value)
	}
}

// ObserveOpenSagas sets the function that returns the number of open sagas. It is called whenever metrics are read, and
// must be quick and safe for concurrent use. Call ObserveOpenSagas once. The error is OpenTelemetry's.
func (t *Telemetry) ObserveOpenSagas(count func() int64) error {
	if !t.Metering() {
		return nil
	}
	_, err := t.metrics.meter.Int64ObservableGauge(metricSagasOpen,
		metric.WithUnit("{saga}"),
		metric.WithDescription("Sagas that haven't ended."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(count())
			return nil
		}))
	if err != nil {
		return fmt.Errorf("telemetry: creating the metric %s: %w", metricSagasOpen, err)
	}
	return nil
}

// ObserveStore sets the function that returns the sizes in bytes of the store's file and of its write-ahead log. It is
// called whenever metrics are read, and must be quick and safe for concurrent use. Call ObserveStore once. The error is
// OpenTelemetry's.
func (t *Telemetry) ObserveStore(size func() (file, log int64)) error {
	if !t.Metering() {
		return nil
	}
	var errs [3]error
	inFile := t.metrics.gauge(&errs[0], "By", metricStoreSize, "Size of the store's file.")
	inLog := t.metrics.gauge(&errs[1], "By", metricStoreLogSize, "Size of the store's write-ahead log.")
	if err := errors.Join(errs[:]...); err == nil {
		_, errs[2] = t.metrics.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
			file, log := size()
			o.ObserveInt64(inFile, file)
			o.ObserveInt64(inLog, log)
			return nil
		}, inFile, inLog)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return fmt.Errorf("telemetry: creating the metrics of the store: %w", err)
	}
	return nil
}

// gauge makes a gauge that is read whenever metrics are, and sets err.
func (m *metrics) gauge(err *error, unit, name, description string) metric.Int64ObservableGauge {
	var made metric.Int64ObservableGauge
	made, *err = m.meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(description))
	return made
}

// Load is what a participant has to do.
type Load struct {
	// Target is the participant's target.
	Target string

	// Limit is how many commands may be in flight, and InFlight how many are.
	Limit, InFlight int

	// Waiting is how many commands wait for their turn.
	Waiting int

	// ParkedMethods is how many methods aren't called because their contract has drifted.
	ParkedMethods int
}

// ObserveLoads sets the function that returns what participants have to do. It is called whenever metrics are read, and
// must be quick and safe for concurrent use. Call ObserveLoads once. The error is OpenTelemetry's.
func (t *Telemetry) ObserveLoads(loads func() []Load) error {
	if !t.Metering() {
		return nil
	}
	var errs [5]error
	limit := t.metrics.gauge(&errs[0], "{command}", metricParticipantLimit,
		"Commands that may be in flight to a participant.")
	inFlight := t.metrics.gauge(&errs[1], "{command}", metricParticipantInFlight,
		"Commands in flight to a participant.")
	waiting := t.metrics.gauge(&errs[2], "{command}", metricParticipantWaiting,
		"Commands that wait until a participant has less to do.")
	parked := t.metrics.gauge(&errs[4], "{method}", metricParticipantParked,
		"Methods that aren't called because the participant's contract has drifted from the orchestrator's.")
	if err := errors.Join(errs[:]...); err == nil {
		_, errs[3] = t.metrics.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
			for _, load := range loads() {
				target := t.metrics.set(setKey{key: keyTarget, value: load.Target})
				o.ObserveInt64(limit, int64(load.Limit), target)
				o.ObserveInt64(inFlight, int64(load.InFlight), target)
				o.ObserveInt64(waiting, int64(load.Waiting), target)
				o.ObserveInt64(parked, int64(load.ParkedMethods), target)
			}
			return nil
		}, limit, inFlight, waiting, parked)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return fmt.Errorf("telemetry: creating the metrics of participants: %w", err)
	}
	return nil
}
