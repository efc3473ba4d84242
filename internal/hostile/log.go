package hostile

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/net/http2"
)

// Ending is how a call ended for the client.
type Ending string

const (
	// Pending is the ending of a call that goes on.
	Pending Ending = ""

	// Answered is the ending of a call with an answer, the upstream's or another one.
	Answered Ending = "answered"

	// WasReset is the ending of a call whose stream the middle or the upstream reset.
	WasReset Ending = "reset"

	// WentAway is the ending of a call that a GOAWAY disowned.
	WentAway Ending = "disowned by GOAWAY"

	// Closed is the ending of a call whose connection the middle closed, for this call or another one, or because the
	// upstream closed its own.
	Closed Ending = "connection closed"

	// GaveUp is the ending of a call that the client reset, or whose connection it closed, and of one that goes on when
	// the middle closes.
	GaveUp Ending = "given up"
)

// Record is what is known of a call.
type Record struct {
	Call Call

	// Plan describes the plan, as [Plan.String] does.
	Plan string

	// Arrived says that the middle has the whole request.
	Arrived bool

	// Deliveries are what became of the plan's deliveries, in its order.
	Deliveries []Delivered

	// Ending is how the call ended for the client.
	Ending Ending

	// HTTPStatus is the status of the HTTP answer that the client got, e.g. "200"; empty if it got no headers.
	HTTPStatus string

	// GRPCStatus is the "grpc-status" that the client got, e.g. "0"; empty if it got none.
	GRPCStatus string

	// ErrCode is the code of the RST_STREAM, if Ending is [WasReset] or the client sent one.
	ErrCode http2.ErrCode

	// Struck says that the client got an answer of the middle's own, or is about to.
	Struck bool

	// Finished says that nothing more will happen: the call has ended for the client, and every delivery for the
	// upstream.
	Finished bool

	// unlisted says that the log doesn't have it.
	unlisted bool
}

// Delivered is what became of a delivery.
type Delivered struct {
	// Opened says that the headers went up, so the upstream may have carried the request out.
	Opened bool

	// Whole says that the whole request went up.
	Whole bool

	// Answered says that the upstream answered completely, and GRPCStatus is its "grpc-status".
	Answered   bool
	GRPCStatus string

	// Ended says that nothing more will happen.
	Ended bool
}

// String describes the record on one line.
func (r Record) String() string {
	return fmt.Sprintf(
		"call %d, %s: plan %q, deliveries %+v, client %q (HTTP status %q, gRPC status %q, %v), finished %t",
		r.Call.Number, r.Call.Method, r.Plan, r.Deliveries, r.Ending, r.HTTPStatus, r.GRPCStatus, r.ErrCode, r.Finished)
}

// log keeps the records of the newest calls. Its methods are safe for concurrent use.
type log struct {
	mu       sync.Mutex
	keep     int
	records  []*Record
	counts   map[string]int
	finished int
	changed  chan struct{}
}

func newLog(keep int) *log {
	return &log{keep: keep, counts: make(map[string]int), changed: make(chan struct{})}
}

// add starts the record of a call.
func (l *log) add(call Call, plan Plan) *Record {
	record := &Record{Call: call, Plan: plan.String(), Deliveries: make([]Delivered, len(plan.deliveries()))}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts[record.Plan]++
	l.records = append(l.records, record)
	if len(l.records) > l.keep {
		l.records = slices.Delete(l.records, 0, len(l.records)-l.keep)
	}
	l.announce()
	return record
}

// update changes a record, and finishes it when there is nothing more to come.
func (l *log) update(record *Record, change func(*Record)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(record)
	open := slices.ContainsFunc(record.Deliveries, func(d Delivered) bool { return !d.Ended })
	if record.Ending != Pending && !open && !record.Finished {
		record.Finished = true
		if !record.unlisted {
			l.finished++
		}
	}
	l.announce()
}

// announce wakes everyone who waits. The caller holds the lock.
func (l *log) announce() {
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *log) snapshot() (records []Record, finished int, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, record := range l.records {
		c := *record
		c.Deliveries = slices.Clone(record.Deliveries)
		records = append(records, c)
	}
	return records, l.finished, l.changed
}

// Calls returns the records of the newest calls, oldest first; of how many, [Options] says.
func (m *Middle) Calls() []Record {
	records, _, _ := m.log.snapshot()
	return records
}

// Counts returns how many calls there were of each plan, by the plan's description.
func (m *Middle) Counts() map[string]int {
	m.log.mu.Lock()
	defer m.log.mu.Unlock()
	return maps.Clone(m.log.counts)
}

// Await waits until the records are as wanted. It looks at them after every change. Its error, when ctx ends first,
// names the calls.
func (m *Middle) Await(ctx context.Context, wanted func(calls []Record) bool) error {
	return m.await(ctx, func(calls []Record, _ int) bool { return wanted(calls) })
}

// Finished waits until n calls are finished: those that count are all since the start. Its error, when ctx ends first,
// names the calls.
func (m *Middle) Finished(ctx context.Context, n int) error {
	return m.await(ctx, func(_ []Record, finished int) bool { return finished >= n })
}

func (m *Middle) await(ctx context.Context, wanted func(calls []Record, finished int) bool) error {
	for {
		records, finished, changed := m.log.snapshot()
		if wanted(records, finished) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			var lines strings.Builder
			for _, record := range records {
				fmt.Fprintf(&lines, "\n%s", record)
			}
			return fmt.Errorf("wait for the calls of the middle at %s, %d of which have finished: %w. The calls: %s",
				m.Addr(), finished, context.Cause(ctx), lines.String())
		}
	}
}
