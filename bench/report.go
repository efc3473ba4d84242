package main

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"
)

// conditions are what the figures depend on, besides the options.
type conditions struct {
	Cores     int    `json:"cores"`
	GoVersion string `json:"go_version"`
	Platform  string `json:"platform"`
	Round     string `json:"round"`
	WarmUp    string `json:"warm_up"`
	Date      string `json:"date"`
}

func newConditions(o options) conditions {
	return conditions{
		Cores: runtime.NumCPU(), GoVersion: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Round: o.Round.String(), WarmUp: o.WarmUp.String(), Date: time.Now().UTC().Format(time.DateOnly),
	}
}

// report is the result of a measurement. Figures are medians over the rounds; a ratio is the median of the ratios of
// neighboring rounds.
type report struct {
	options
	conditions

	FloorPerSecond  float64   `json:"floor_sagas_per_s"`
	TreatyPerSecond float64   `json:"treaty_sagas_per_s"`
	Ratio           float64   `json:"ratio"`
	P50             float64   `json:"p50_ms"`
	P99             float64   `json:"p99_ms"`
	FloorP50        float64   `json:"floor_p50_ms"`
	FloorP99        float64   `json:"floor_p99_ms"`
	CPU             float64   `json:"cpu_us_per_saga"`       // of all processes
	FloorCPU        float64   `json:"floor_cpu_us_per_saga"` // of all processes
	Processes       processes `json:"processes"`
	FloorProcesses  processes `json:"floor_processes"`
	HeapFloor       *beside   `json:"heap_floor,omitempty"` // the floor with a heap floor; the ratio is Treaty's to it
	Secure          *beside   `json:"secure,omitempty"`     // over mutual TLS, with a policy; to plaintext
	Filled          *beside   `json:"filled,omitempty"`     // Treaty with a filled store; the ratio is to the empty one
	Bytes           float64   `json:"bytes_per_saga"`       // on disk, after the store was closed
	Sagas           int       `json:"sagas"`                // that Treaty ran in total, warm-up included
	Spans           int64     `json:"spans,omitempty"`      // of all sides
}

// processes is what each process of a side uses for a saga.
type processes struct {
	Client      perSaga `json:"client"`
	Server      perSaga `json:"server"` // Treaty's is the orchestrator
	Participant perSaga `json:"participant"`
}

// perSaga is what a process uses for a saga.
type perSaga struct {
	CPU     float64 `json:"cpu_us"`
	Bytes   float64 `json:"allocated_bytes"`
	Objects float64 `json:"allocated_objects"`
}

// beside are the figures of a side that is shown beside the two that are compared.
type beside struct {
	Sagas     int     `json:"sagas,omitempty"` // in the store, before
	PerSecond float64 `json:"sagas_per_s"`
	Ratio     float64 `json:"ratio"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	CPU       float64 `json:"cpu_us_per_saga"`
}

func newReport(o options, floors, treaties []measured) *report {
	r := &report{
		options: o, conditions: newConditions(o),
		FloorPerSecond: median(floors, perSecond), TreatyPerSecond: median(treaties, perSecond),
		Ratio: ratioOf(floors, treaties),
		P50:   median(treaties, p50), P99: median(treaties, p99),
		FloorP50: median(floors, p50), FloorP99: median(floors, p99),
		CPU: median(treaties, measured.cpu), FloorCPU: median(floors, measured.cpu),
		Processes: newProcesses(treaties), FloorProcesses: newProcesses(floors),
	}
	for _, m := range treaties {
		r.Sagas += m.AllSagas
	}
	return r
}

func newBeside(rounds []measured, ratio float64) *beside {
	return &beside{
		PerSecond: median(rounds, perSecond), Ratio: ratio,
		P50: median(rounds, p50), P99: median(rounds, p99), CPU: median(rounds, measured.cpu),
	}
}

func newProcesses(rounds []measured) processes {
	figures := func(used func(measured) usage) perSaga {
		return perSaga{
			CPU:   median(rounds, func(m measured) float64 { return microseconds(used(m).CPU) / float64(m.AllSagas) }),
			Bytes: median(rounds, func(m measured) float64 { return float64(used(m).Bytes) / float64(m.AllSagas) }),
			Objects: median(rounds, func(m measured) float64 {
				return float64(used(m).Objects) / float64(m.AllSagas)
			}),
		}
	}
	return processes{
		Client:      figures(func(m measured) usage { return m.Used }),
		Server:      figures(func(m measured) usage { return m.server }),
		Participant: figures(func(m measured) usage { return m.participant }),
	}
}

func perSecond(m measured) float64 { return m.perSecond }

func p50(m measured) float64 { return milliseconds(m.P50) }

func p99(m measured) float64 { return milliseconds(m.P99) }

// ratioOf is the median of the ratios of others to rounds.
func ratioOf(rounds, others []measured) float64 {
	ratios := make([]float64, len(rounds))
	for i := range rounds {
		ratios[i] = others[i].perSecond / rounds[i].perSecond
	}
	return median(ratios, func(ratio float64) float64 { return ratio })
}

// how says in which way Treaty's commands are sent.
func (o options) how() string {
	how := []string{"stream", "inbox"}
	if o.Unary {
		how[0] = "unary"
	}
	if !o.Inbox {
		how[1] = "no inbox"
	}
	if o.Tracing {
		how = append(how, "traced")
	}
	return strings.Join(how, ", ")
}

// print prints the report for people.
func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "%s; %d steps, %d sagas in flight, %d B of ballast, %d%% refused\n",
		r.how(), r.Steps, r.InFlight, r.Payload, r.Refused)
	fmt.Fprintf(w, "%s\n\n", r.line(r.Rounds))
	const name, figures = "%-24s", " %10.0f %10.2f %10.2f"
	fmt.Fprintf(w, name+" %10s %10s %10s %10s   %s\n", "", "sagas/s", "p50 ms", "p99 ms", "CPU us",
		"client + server + participant")
	fmt.Fprintf(w, name+figures+" %10.0f   %s\n",
		"floor", r.FloorPerSecond, r.FloorP50, r.FloorP99, r.FloorCPU, r.FloorProcesses.cpu())
	fmt.Fprintf(w, name+figures+" %10.0f   %s\n",
		"Treaty", r.TreatyPerSecond, r.P50, r.P99, r.CPU, r.Processes.cpu())
	if b := r.HeapFloor; b != nil {
		fmt.Fprintf(w, name+figures+" %10.0f\n", "floor with a heap floor", b.PerSecond, b.P50, b.P99, b.CPU)
	}
	if b := r.Secure; b != nil {
		fmt.Fprintf(w, name+figures+" %10.0f\n", "Treaty, mutual TLS", b.PerSecond, b.P50, b.P99, b.CPU)
	}
	if b := r.Filled; b != nil {
		fmt.Fprintf(w, name+figures+" %10.0f\n", "Treaty, filled store", b.PerSecond, b.P50, b.P99, b.CPU)
	}
	fmt.Fprintf(w, "\nratio %.2f", r.Ratio)
	if r.HeapFloor != nil {
		fmt.Fprintf(w, "; %.2f to the floor with a heap floor", r.HeapFloor.Ratio)
	}
	if r.Secure != nil {
		fmt.Fprintf(w, "; over mutual TLS with a policy, %.2f of that over plaintext", r.Secure.Ratio)
	}
	if r.Filled != nil {
		fmt.Fprintf(w, "; with %d finished sagas in the store, %.2f of that with none", r.Filled.Sagas, r.Filled.Ratio)
	}
	fmt.Fprintf(w, "\nCPU us and allocations are for each saga: %s in the orchestrator, %s in the participant "+
		"(the floor's: %s, %s)\n%.0f bytes on disk for each of %d sagas\n",
		r.Processes.Server.allocations(), r.Processes.Participant.allocations(),
		r.FloorProcesses.Server.allocations(), r.FloorProcesses.Participant.allocations(), r.Bytes, r.Sagas)
}

// line describes the conditions in one line.
func (c conditions) line(rounds int) string {
	return fmt.Sprintf("%d cores, %s, %s; %d rounds of %s each, after a warm-up of %s; %s",
		c.Cores, c.Platform, c.GoVersion, rounds, c.Round, c.WarmUp, c.Date)
}

func (p processes) cpu() string {
	return fmt.Sprintf("%.0f + %.0f + %.0f", p.Client.CPU, p.Server.CPU, p.Participant.CPU)
}

func (p perSaga) allocations() string {
	return fmt.Sprintf("%.1f kB in %.0f objects", p.Bytes/1000, p.Objects)
}
