package base

import (
	"context"
	"math"
	"sync"
)

// paceWindow is how many bytes of the base a lane may be ahead of the slowest.
const paceWindow = 64 << 20

// pace holds several walkers together: none goes on while it is more than a window
// ahead of the slowest that has not left. Its methods can be called concurrently.
type pace struct {
	window int64

	mu    sync.Mutex
	at    []int64       // how far each is; math.MaxInt64 if it has left
	moved chan struct{} // closed when one moves, and then another
}

func newPace(walkers int, window int64) *pace {
	return &pace{window: window, at: make([]int64, walkers), moved: make(chan struct{})}
}

// advance says that a walker has gone on by n, and returns when it may go on, or when
// ctx has ended. One that has left may always go on.
func (p *pace) advance(ctx context.Context, walker int, n int64) {
	p.mu.Lock()
	if p.at[walker] == math.MaxInt64 {
		p.mu.Unlock()
		return
	}
	p.move(walker, p.at[walker]+n)
	for p.at[walker]-p.slowest() > p.window {
		moved := p.moved
		p.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return
		}
		p.mu.Lock()
	}
	p.mu.Unlock()
}

// leave says that nobody must wait for a walker from then on.
func (p *pace) leave(walker int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.move(walker, math.MaxInt64)
}

func (p *pace) move(walker int, to int64) {
	p.at[walker] = to
	close(p.moved)
	p.moved = make(chan struct{})
}

func (p *pace) slowest() int64 {
	least := int64(math.MaxInt64)
	for _, at := range p.at {
		least = min(least, at)
	}
	return least
}
