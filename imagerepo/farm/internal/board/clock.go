package board

import (
	"fmt"
	"time"

	"puavo-image-repository/imagerepo/internal/work"
)

// Limits are those of the time that is given.
type Limits struct {
	Silence time.Duration // after which a worker counts as gone
	Grace   time.Duration // after which a job that nobody begins comes back, see Idle
	Least   time.Duration // that a job may take, and fetching its images, however small they are
	Factor  float64       // of what a job is expected to take, after which its worker is too slow
	Workers int           // that may try a job
}

// Usual are the limits of a farm.
var Usual = Limits{Silence: 15 * time.Second, Grace: 5 * time.Second, Least: time.Minute, Factor: 4, Workers: 3}

// slowest is the slowest link behind which a worker is of use, in bytes a second.
const slowest = 256 << 10

// listed notes that the worker of a job has listed it, and whether it waits for images, as it is
// taken to have done since it was listed last.
func (e *entry) listed(now time.Time, waits bool) {
	if waits {
		e.fetched += now.Sub(e.heard)
	}
	e.heard, e.waits = now, waits
}

// times returns for how long the worker of a job has fetched its images, and for how long it has
// worked on it besides.
func (e *entry) times(now time.Time) (fetching, working time.Duration) {
	fetching = e.fetched
	if e.waits {
		fetching += now.Sub(e.heard)
	}
	return fetching, now.Sub(e.since) - fetching
}

// Tick looks at what is overdue.
func (b *Board) Tick(now time.Time) (a Actions) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range b.workers {
		if now.Sub(w.Heard) > b.limits.Silence {
			w.Gone, w.Running = true, 0
		}
	}
	for id, e := range b.jobs {
		switch fetching, took := e.times(now); {
		case e.state == waiting && now.Sub(e.since) > b.limits.Grace && (b.idle || e.item.Kind == work.Verify && !b.others(e.not...)):
			e.state = ended
			a.Back = append(a.Back, Back{id, append(e.reasons, "no worker has begun it")})
		case e.state != working:
		case now.Sub(e.heard) > b.limits.Silence:
			b.fail(now, id, e, "the worker is gone, or has lost it", &a)
		case fetching > b.allowedToFetch(e):
			b.fail(now, id, e, fmt.Sprintf("it has not fetched the images after %v", fetching.Round(time.Second)), &a)
		case took > b.allowed(e):
			b.fail(now, id, e, fmt.Sprintf("not done after %v", took.Round(time.Second)), &a)
		}
	}
	return a
}

func (b *Board) allowed(e *entry) time.Duration {
	return max(b.limits.Least, time.Duration(b.limits.Factor*e.item.Seconds*max(b.ratio, 0.25)*float64(time.Second)))
}

func (b *Board) allowedToFetch(e *entry) time.Duration {
	return b.limits.Least + time.Duration(float64(e.item.Size())/slowest*float64(time.Second))
}
