package farm

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/farm/internal/board"
	"puavo-image-repository/imagerepo/internal/work"
)

// spoil changes a byte of a delta.
func spoil(d *made) {
	if d.file == nil {
		return
	}
	b := make([]byte, 1)
	at := d.size / 2
	_, _ = d.file.ReadAt(b, at)
	b[0] ^= 0x40
	_, _ = d.file.WriteAt(b, at)
}

func cutShort(d *made) { d.size /= 2 }

func empty(d *made) { d.size = 0 }

// lose has a delta reported that is not sent.
func lose(d *made) {
	if d.file != nil {
		d.file.Close()
	}
	d.file = nil
}

func fail(d *made) { d.report.Error = "no luck" }

func hang(d *made) { <-d.ctx.Done() }

// delay does a job in more than ten times the time.
func delay(d *made) {
	select {
	case <-d.ctx.Done():
	case <-time.After(2 * time.Second):
	}
}

func accuse(d *made) { d.report.Wrong = true }

func approve(d *made) { d.report.Wrong = false }

// impatient are limits by which a job that is not done soon goes to another worker.
var impatient = board.Limits{Silence: 5 * time.Second, Grace: 300 * time.Millisecond, Least: time.Second, Factor: 0.1, Workers: 3}

// Whatever workers do, the mirror is that of a run without them, and the builder finds out who was
// wrong.
func TestBadWorkers(t *testing.T) {
	const first, all = "w0", "w0 w1 w2"
	for name, c := range map[string]struct {
		kind    work.Kind // of the jobs that are done badly
		bad     func(*made)
		who     string // does them so; the others, up to two workers, are good
		recheck float64
		limits  board.Limits
		spoils  bool   // whether the compact deltas that it verifies are wrong
		barred  string // who gets no more; where all are bad, perhaps not all of them
		logged  string
		late    bool // that is so only when all workers have ended
		long    bool // left to the tests without the race detector
	}{
		"an rdiff with wrong bytes":         {kind: work.RDiff, bad: spoil, who: first, barred: first},
		"an rdiff with wrong bytes, of all": {kind: work.RDiff, bad: spoil, who: all, barred: first},
		"an rdiff that is cut short":        {kind: work.RDiff, bad: cutShort, who: first, barred: first},
		"an rdiff of no bytes":              {kind: work.RDiff, bad: empty, who: first, barred: first},
		"an rdiff that is not sent":         {kind: work.RDiff, bad: lose, who: first, logged: "its result has not arrived"},
		"an rdiff that is not worth having": {kind: work.RDiff, bad: func(d *made) { lose(d); d.size, d.report.TooLarge = 0, true }, who: first, logged: `result="too large"`},

		"a compact delta with wrong bytes":  {long: true, kind: work.Compact, bad: spoil, who: first, barred: first},
		"a compact delta that is cut short": {long: true, kind: work.Compact, bad: cutShort, who: first, barred: first},
		"a compact delta of no bytes":       {long: true, kind: work.Compact, bad: empty, who: first, barred: first},
		"a compact delta that is not sent":  {long: true, kind: work.Compact, bad: lose, who: first, logged: "its result has not arrived"},

		"says bad of good":                   {long: true, kind: work.Verify, bad: accuse, who: first, barred: first},
		"says good of bad, and is rechecked": {long: true, kind: work.Verify, bad: approve, who: first, recheck: 1, spoils: true, barred: "w0 w1"},
		"says good of bad, and is found out": {kind: work.Verify, bad: once(approve, accuse), who: first, spoils: true, barred: "w0 w1", logged: "withdrawing it", late: true},

		"fails":           {kind: work.RDiff, bad: fail, who: first, logged: "no luck"},
		"all fail":        {long: true, kind: work.Compact, bad: fail, who: all, logged: "no luck; w"},
		"hangs":           {kind: work.RDiff, bad: hang, who: first, limits: impatient, logged: "not done after"},
		"all hang":        {kind: work.RDiff, bad: hang, who: all, limits: impatient, logged: "not done after"},
		"hangs verifying": {long: true, kind: work.Verify, bad: hang, who: first, limits: impatient, logged: "not done after"},
		"is slow":         {kind: work.RDiff, bad: delay, who: first, limits: impatient, logged: "not done after"},
	} {
		if c.long && some() == rdiffs {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, func(o *Options) {
				o.Recheck = c.recheck
				if c.limits != (board.Limits{}) {
					o.limits = c.limits
				}
			})
			var acted atomic.Bool
			workers := max(2, len(strings.Fields(c.who)))
			for i := range workers {
				name := fmt.Sprint("w", i)
				bad := slices.Contains(strings.Fields(c.who), name)
				p.worker(name, func(o *WorkerOptions) {
					o.tamper = func(d *made) {
						switch {
						case d.job.Kind == c.kind && bad && d.report.TooLarge: // there is nothing to do badly
						case d.job.Kind == c.kind && bad:
							acted.Store(true)
							c.bad(d)
						case d.job.Kind == c.kind: // not before the bad one has one
							for !acted.Load() && d.ctx.Err() == nil {
								wait(d.ctx, 10*time.Millisecond)
							}
						case d.job.Kind == work.Compact && bad: // so that the other one makes what it verifies
							fail(d)
						case d.job.Kind == work.Compact && c.spoils:
							spoil(d)
						}
					}
				})
			}
			p.found(workers)
			limit := time.Now().Add(time.Minute) // only where it fails
			what := whole
			if c.kind == work.RDiff {
				what = rdiffs
			}
			p.same(waiting{p.farm, func(kind work.Kind) bool {
				about := kind == c.kind || kind == work.Compact && c.kind == work.Verify
				found := acted.Load() && len(p.barred()) >= len(strings.Fields(c.barred)) && strings.Contains(p.logged(), c.logged)
				return !about || found || c.late && len(p.barred()) > 0 || time.Now().After(limit)
			}}, what)
			got := strings.Join(p.barred(), " ")
			asWanted := got == c.barred || c.who == all && got != "" && c.barred != ""
			if !acted.Load() || !asWanted || !strings.Contains(p.logged(), c.logged) {
				t.Errorf("%q are barred, want %q; %q is logged: %t\n%s", got, c.barred, c.logged, strings.Contains(p.logged(), c.logged), p.logged())
			}
		})
	}
}

// once does one thing at first, and another from then on.
func once(at, then func(*made)) func(*made) {
	var begun atomic.Bool
	return func(d *made) {
		if begun.CompareAndSwap(false, true) {
			at(d)
		} else {
			then(d)
		}
	}
}

// Connections that break in the middle of images and results, again and again, cost only time.
func TestCutLinks(t *testing.T) {
	t.Parallel()
	var cuts atomic.Int64
	p := newPlace(t, func(o *Options) {
		o.wrap = func(l net.Listener) net.Listener { return cutting{l, &cuts} }
	})
	for i := range 2 {
		p.worker(fmt.Sprint("w", i))
	}
	p.found(2)
	if p.same(p.busy(), some()); p.done() < want(t, some()).made || cuts.Load() < 5 {
		t.Errorf("%d jobs, %d cuts\n%s", p.done(), cuts.Load(), p.logged())
	}
}

// cutting are connections that break after 150 KiB to the worker, or 20 KiB from it.
type cutting struct {
	net.Listener
	cuts *atomic.Int64
}

func (c cutting) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	return &cutConn{Conn: conn, cuts: c.cuts, out: 150 << 10, in: 20 << 10}, err
}

type cutConn struct {
	net.Conn
	cuts    *atomic.Int64
	out, in int // bytes left
}

func (c *cutConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p[:min(len(p), c.out)])
	if c.out -= n; c.out == 0 && err == nil {
		c.cuts.Add(1)
		c.Conn.Close()
		err = net.ErrClosed
	}
	return n, err
}

func (c *cutConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p[:min(len(p), c.in)])
	if c.in -= n; c.in == 0 && err == nil {
		c.cuts.Add(1)
		c.Conn.Close()
	}
	return n, err
}
