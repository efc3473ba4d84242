package dispatch

import (
	"context"
	"time"

	"google.golang.org/grpc/connectivity"
)

// awaitReady waits until there is a connection. It returns false when ctx ends or the connection is closed.
func awaitReady(ctx context.Context, conn connection) bool {
	for {
		state := conn.GetState()
		switch state {
		case connectivity.Ready:
			return ctx.Err() == nil
		case connectivity.Shutdown:
			return false
		case connectivity.Idle:
			conn.Connect()
		}
		if !conn.WaitForStateChange(ctx, state) {
			return false
		}
	}
}

// waitWhileReady waits until the connection breaks, the time has passed, or ctx ends.
func waitWhileReady(ctx context.Context, conn connection, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn.WaitForStateChange(ctx, connectivity.Ready)
}

// sleepJittered waits for a time with jitter. It returns false when ctx ends.
func sleepJittered(ctx context.Context, delay time.Duration, rand func() float64) bool {
	if delay == 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(delay/2 + time.Duration(rand()*float64(delay/2)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
