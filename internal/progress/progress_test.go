package progress_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/treatyhq/treaty/internal/progress"
)

func TestWatch(t *testing.T) {
	for name, test := range map[string]struct {
		lasts time.Duration
		want  []time.Duration
	}{
		"short":  {lasts: 900 * time.Millisecond},
		"longer": {lasts: 1500 * time.Millisecond, want: []time.Duration{time.Second}},
		"long": {lasts: 8 * time.Second,
			want: []time.Duration{time.Second, 4 * time.Second, 7 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got []time.Duration
				stop := progress.Watch(func(elapsed time.Duration) { got = append(got, elapsed) })
				<-time.After(test.lasts)
				stop()
				<-time.After(time.Minute)
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("reported (-want +got):\n%s", diff)
				}
			})
		})
	}
}
