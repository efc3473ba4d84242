package main

import (
	"fmt"
	"io"
	"slices"
	"time"
)

// report is the result of a measurement. Figures are medians over the rounds; the ratio is the median of the ratios of
// neighboring rounds.
type report struct {
	options

	FloorPerSecond  float64 `json:"floor_sagas_per_s"`
	TreatyPerSecond float64 `json:"treaty_sagas_per_s"`
	Ratio           float64 `json:"ratio"`
	P50             float64 `json:"p50_ms"`
	P99             float64 `json:"p99_ms"`
	FloorP50        float64 `json:"floor_p50_ms"`
	FloorP99        float64 `json:"floor_p99_ms"`
	CPU             float64 `json:"cpu_us_per_saga"`       // client, orchestrator and participant
	FloorCPU        float64 `json:"floor_cpu_us_per_saga"` // client, server and participant
	Bytes           float64 `json:"bytes_per_saga"`        // on disk, after the store was closed
	Sagas           int     `json:"sagas"`                 // that Treaty ran in total, warm-up included
	Spans           int64   `json:"spans,omitempty"`
}

func newReport(o options, floors, treaties []measured, bytes int64) *report {
	r := &report{options: o}
	var ratios []float64
	for i := range floors {
		ratios = append(ratios, treaties[i].perSecond/floors[i].perSecond)
		r.Sagas += treaties[i].AllSagas
	}
	slices.Sort(ratios)
	r.Ratio = ratios[len(ratios)/2]
	r.FloorPerSecond = median(floors, func(m measured) float64 { return m.perSecond })
	r.TreatyPerSecond = median(treaties, func(m measured) float64 { return m.perSecond })
	r.P50 = milliseconds(median(treaties, func(m measured) time.Duration { return m.P50 }))
	r.P99 = milliseconds(median(treaties, func(m measured) time.Duration { return m.P99 }))
	r.FloorP50 = milliseconds(median(floors, func(m measured) time.Duration { return m.P50 }))
	r.FloorP99 = milliseconds(median(floors, func(m measured) time.Duration { return m.P99 }))
	r.CPU = microseconds(median(treaties, func(m measured) time.Duration { return m.cpu }))
	r.FloorCPU = microseconds(median(floors, func(m measured) time.Duration { return m.cpu }))
	r.Bytes = float64(bytes) / float64(r.Sagas)
	return r
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "%d steps, %d sagas in flight, %d B of ballast, %d%% refused, inbox %v, tracing %v; %d rounds of "+
		"%v each\n\n",
		r.Steps, r.InFlight, r.Payload, r.Refused, r.Inbox, r.Tracing, r.Rounds, r.Round)
	fmt.Fprintf(w, "%-8s %12s %10s %10s %16s\n", "", "sagas/s", "p50 ms", "p99 ms", "CPU us a saga")
	fmt.Fprintf(w, "%-8s %12.0f %10.2f %10.2f %16.0f\n", "floor", r.FloorPerSecond, r.FloorP50, r.FloorP99, r.FloorCPU)
	fmt.Fprintf(w, "%-8s %12.0f %10.2f %10.2f %16.0f\n", "Treaty", r.TreatyPerSecond, r.P50, r.P99, r.CPU)
	fmt.Fprintf(w, "\nratio %.2f; %.0f bytes on disk for each of %d sagas\n", r.Ratio, r.Bytes, r.Sagas)
}
