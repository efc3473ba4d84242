package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares what a test got with a golden file.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// somewhere are the conditions of made-up measurements.
var somewhere = conditions{
	Cores: 2, GoVersion: "go1.26.8", Platform: "linux/amd64", Round: "2s", WarmUp: "500ms", Date: "2026-11-30",
}

// made is a made-up round of two seconds, in which 1000 sagas ended for each unit of speed. Before, 100 have.
func made(speed int) measured {
	sagas := 1000 * speed
	used := func(cpu time.Duration, bytes, objects uint64) usage {
		all := uint64(sagas + 100)
		return usage{CPU: cpu * time.Duration(all), Bytes: bytes * all, Objects: objects * all}
	}
	return measured{
		round: round{
			Sagas: sagas, AllSagas: sagas + 100, Elapsed: 2 * time.Second,
			P50: time.Second / time.Duration(speed), P99: 3 * time.Second / time.Duration(speed),
			Used: used(70*time.Microsecond, 6000, 80),
		},
		perSecond:   float64(sagas) / 2,
		server:      used(200*time.Microsecond, 20_000, 300),
		participant: used(130*time.Microsecond, 11_000, 160),
	}
}

// madeReport is the report of made-up rounds.
func madeReport() *report {
	o := options{Steps: 3, InFlight: 256, Payload: 32, Rounds: 3, Round: 2 * time.Second, Conns: 1, Inbox: true}
	floors, treaties := []measured{made(10), made(8), made(9)}, []measured{made(5), made(6), made(4)}
	r := newReport(o, floors, treaties)
	r.conditions = somewhere
	r.HeapFloor = newBeside([]measured{made(12), made(12), made(12)}, 0.42)
	r.Filled = newBeside([]measured{made(5), made(5), made(5)}, 0.98)
	r.Filled.Sagas = 10_000_000
	r.Bytes = 940
	return r
}

// TestReport compares the reports of made-up rounds with golden files.
func TestReport(t *testing.T) {
	var text bytes.Buffer
	madeReport().print(&text)
	golden(t, "report.txt", text.Bytes())
	asJSON, err := json.MarshalIndent(madeReport(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "report.json", append(asJSON, '\n'))
}

// TestMedian finds the middle of an odd and of an even number of rounds, whose order doesn't matter.
func TestMedian(t *testing.T) {
	itself := func(f float64) float64 { return f }
	for _, s := range []struct {
		rounds []float64
		want   float64
	}{{[]float64{7}, 7}, {[]float64{9, 1, 2}, 2}, {[]float64{9, 1, 2, 4}, 3}} {
		if got := median(s.rounds, itself); got != s.want {
			t.Errorf("the median of %v is %v, want %v", s.rounds, got, s.want)
		}
	}
}
