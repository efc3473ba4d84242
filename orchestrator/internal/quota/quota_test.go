package quota_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/quota"
	"github.com/treatyhq/treaty/orchestrator/internal/rawcodec"
)

const mib = 1 << 20

// open opens a stream.
func open(t *testing.T, q *quota.Quota, connection, caller string) *quota.Call {
	t.Helper()
	c, err := q.Stream(connection, caller)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// send sends a message, which nobody reads yet. It returns the function by which its reader takes it.
func send(t *testing.T, c *quota.Call, bytes int) (take func()) {
	t.Helper()
	room, err := c.Reserve(t.Context(), int64(bytes))
	if err != nil {
		t.Fatal(err)
	}
	defer room.Close()
	data, err := rawcodec.New().Marshal(room.Message(make([]byte, bytes)))
	if err != nil {
		t.Fatal(err)
	}
	return data.Free
}

func TestStreamsAreLimited(t *testing.T) {
	q := quota.New(quota.Limits{Streams: 2, TotalStreams: 3})
	first := open(t, q, "1", "ada")
	open(t, q, "2", "ada")
	if _, err := q.Stream("3", "ada"); !errors.Is(err, quota.ErrCallerStreams) {
		t.Errorf("the third stream of a caller: %v", err)
	}
	open(t, q, "3", "bob")
	if _, err := q.Stream("3", "bob"); !errors.Is(err, quota.ErrTotalStreams) {
		t.Errorf("the fourth stream of all: %v", err)
	}
	first.Close()
	first.Close() // counts once
	open(t, q, "3", "bob")
	if _, err := q.Stream("4", "eve"); !errors.Is(err, quota.ErrTotalStreams) {
		t.Errorf("the fourth stream of all, after one has ended: %v", err)
	}
}

// TestBytesAreLimited sends messages to readers that take nothing, until there is no room.
func TestBytesAreLimited(t *testing.T) {
	for name, test := range map[string]struct {
		connection, caller func(i int) string
		want               int // messages of 1 MiB
	}{
		"of a connection": {func(int) string { return "1" }, func(int) string { return "ada" }, 4},
		"of a caller":     {func(i int) string { return string(rune('a' + i)) }, func(int) string { return "ada" }, 16},
		"in total": {func(i int) string { return string(rune('a' + i)) },
			func(i int) string { return string(rune('a' + i)) }, 64},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := quota.New(quota.Limits{StalledAfter: time.Second})
				for i := range test.want {
					send(t, open(t, q, test.connection(i), test.caller(i)), mib)
				}
				last := open(t, q, test.connection(test.want), test.caller(test.want))
				if _, err := last.Reserve(t.Context(), mib); !errors.Is(err, quota.ErrStalled) {
					t.Errorf("one more message: %v", err)
				}
				if got := q.Usage().Bytes; got != int64(test.want)*mib {
					t.Errorf("%d bytes are held", got)
				}
			})
		})
	}
}

// TestReaderThatTakesSomething isn't stalled, even if a message takes it long.
func TestReaderThatTakesSomething(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quota.New(quota.Limits{StalledAfter: time.Minute})
		c := open(t, q, "1", "ada")
		room, err := c.Reserve(t.Context(), mib)
		if err != nil {
			t.Fatal(err)
		}
		data, err := rawcodec.New().Marshal(room.Message(make([]byte, mib)))
		if err != nil {
			t.Fatal(err)
		}
		room.Close()
		go func() {
			for _, part := range data {
				<-time.After(59 * time.Second)
				part.Free()
			}
		}()
		room, err = c.Reserve(t.Context(), mib)
		if err != nil {
			t.Fatal(err)
		}
		room.Close()
		synctest.Wait()
		c.Close()
		<-time.After(time.Hour) // until all was taken
		if got := q.Usage(); got != (quota.Usage{}) {
			t.Errorf("%+v is held", got)
		}
	})
}

func TestReserveEnds(t *testing.T) {
	cause := errors.New("over")
	over, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	closed := make(chan struct{})
	close(closed)
	for name, test := range map[string]struct {
		ctx        context.Context
		interrupts []<-chan struct{}
		after      time.Duration
		want       error
	}{
		"stalled": {context.Background(), nil, 30 * time.Second, quota.ErrStalled},
		"stalled, with interrupts": {
			context.Background(), make([]<-chan struct{}, 2), 30 * time.Second, quota.ErrStalled,
		},
		"interrupted":            {context.Background(), []<-chan struct{}{closed, nil}, 0, quota.ErrInterrupted},
		"interrupted by another": {context.Background(), []<-chan struct{}{nil, closed}, 0, quota.ErrInterrupted},
		"over":                   {over, nil, 0, cause},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := quota.New(quota.Limits{})
				c := open(t, q, "1", "ada")
				take := send(t, c, 64<<10)
				began := time.Now()
				if _, err := c.Reserve(test.ctx, 1, test.interrupts...); !errors.Is(err, test.want) {
					t.Errorf("got %v, want %v", err, test.want)
				}
				if took := time.Since(began); took != test.after {
					t.Errorf("it took %v, want %v", took, test.after)
				}
				take()
				c.Close()
				if got := q.Usage(); got != (quota.Usage{}) {
					t.Errorf("%+v is held", got)
				}
			})
		})
	}
}

// TestUnreadCountsAfterTheCall ends a call whose reader hasn't read what was sent.
func TestUnreadCountsAfterTheCall(t *testing.T) {
	q := quota.New(quota.Limits{})
	c := q.Unary("1", "ada")
	take := send(t, c, mib)
	c.Close()
	if got := q.Usage(); got != (quota.Usage{Bytes: mib, Callers: 1, Connections: 1}) {
		t.Errorf("%+v is held after the call", got)
	}
	take()
	if got := q.Usage(); got != (quota.Usage{}) {
		t.Errorf("%+v is held after the reply was read", got)
	}
}

// TestDisconnect closes a connection on which messages wait. Those who waited because of them get room.
func TestDisconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quota.New(quota.Limits{})
		ended, live := q.Unary("1", "ada"), open(t, q, "1", "ada")
		take := send(t, ended, 10*mib) // larger than the limit, and alone
		ended.Close()
		other := q.Unary("2", "ada")
		admitted := make(chan error, 1)
		go func() {
			room, err := other.Reserve(t.Context(), 10*mib)
			if err == nil {
				room.Close()
			}
			admitted <- err
		}()
		synctest.Wait()
		q.Disconnect("1")
		if err := <-admitted; err != nil {
			t.Errorf("the one who waited: %v", err)
		}
		if got := q.Usage(); got != (quota.Usage{Streams: 1, Callers: 1, Connections: 2}) {
			t.Errorf("%+v is held after the connection has closed", got)
		}
		take() // late
		send(t, live, mib)
		live.Close()
		other.Close()
		if got := q.Usage(); got != (quota.Usage{}) {
			t.Errorf("%+v is held at the end", got)
		}
	})
}

// TestLargerThanReserved counts messages that need more than the room, and gives back what they don't need.
func TestLargerThanReserved(t *testing.T) {
	for _, bytes := range []int{1000, 3000} {
		q := quota.New(quota.Limits{})
		c := open(t, q, "1", "ada")
		room, err := c.Reserve(t.Context(), 2000)
		if err != nil {
			t.Fatal(err)
		}
		data, err := rawcodec.New().Marshal(room.Message(make([]byte, bytes)))
		if err != nil {
			t.Fatal(err)
		}
		room.Close()
		if got := q.Usage().Bytes; got != int64(bytes) {
			t.Errorf("%d bytes are held, want %d", got, bytes)
		}
		data.Free()
		if got := q.Usage().Bytes; got != 0 {
			t.Errorf("%d bytes are held after %d were read", got, bytes)
		}
	}
}
