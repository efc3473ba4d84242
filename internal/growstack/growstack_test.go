package growstack_test

import (
	"testing"

	"github.com/treatyhq/treaty/internal/growstack"
)

// deep uses several KiB of stack.
func deep(n int) int {
	var frame [64]int
	if n == 0 {
		return frame[0]
	}
	frame[n] = n
	return deep(n-1) + frame[n]
}

// A goroutine whose stack has grown at once is faster than one whose stack grows while it is used.
func BenchmarkGrow(b *testing.B) {
	for _, bench := range []struct {
		name  string
		begin func()
	}{{"grown at once", growstack.Grow}, {"grown on the way", func() {}}} {
		b.Run(bench.name, func(b *testing.B) {
			done := make(chan int)
			for b.Loop() {
				go func() {
					bench.begin()
					done <- deep(8)
				}()
				<-done
			}
		})
	}
}

func TestGrow(t *testing.T) {
	if n := testing.AllocsPerRun(100, growstack.Grow); n != 0 {
		t.Errorf("Grow allocates %v objects in the heap", n)
	}
}
