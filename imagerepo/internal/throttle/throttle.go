// Package throttle keeps what is sent or fetched within a rate.
package throttle

import (
	"context"

	"golang.org/x/time/rate"
)

// Burst is the number of bytes that may pass at once.
const Burst = 64 << 10

// Limit is a rate for all that share it. It can be used concurrently; nil is no limit.
type Limit struct{ limiter *rate.Limiter }

// New returns a limit of this many bytes a second, or nil for 0 and less.
func New(bytes int64) *Limit {
	if bytes <= 0 {
		return nil
	}
	return &Limit{rate.NewLimiter(rate.Limit(bytes), Burst)}
}

// Wait waits until n bytes are within the rate. It returns the error of ctx if that ends
// first.
func (l *Limit) Wait(ctx context.Context, n int) error {
	if l == nil {
		return ctx.Err()
	}
	for ; n > 0; n -= Burst {
		if err := l.limiter.WaitN(ctx, min(n, Burst)); err != nil {
			<-ctx.Done() // the wait would outlast the deadline
			return ctx.Err()
		}
	}
	return nil
}
