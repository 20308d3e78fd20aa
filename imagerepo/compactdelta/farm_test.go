package compactdelta

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/internal/work"
	"puavo-image-repository/meta"
)

// scripted is a farm whose workers have made all compact deltas at once, those of another mirror,
// and applied them. The builder makes none before they come back.
type scripted struct {
	mirror string
	bad    map[string]bool                  // the files of those with a wrong byte
	fails  map[string]bool                  // the files of those that no worker can make
	next   func(ctx context.Context, n int) // called before the n-th result
	gives  bool                             // whether the builder may take jobs back
	taken  int                              // that it has taken back
	barred bool                             // whether all workers are, from the first that is found to be bad

	mu      sync.Mutex
	results []work.Result
	n       int
}

func (s *scripted) Offer(_ context.Context, o work.Offer) (work.Batch, error) {
	for _, it := range o.Jobs {
		base, _ := meta.ParseName(o.Files[it.Base]) // none for a full one
		target, err := meta.ParseName(o.Files[it.Target])
		if err != nil {
			return nil, err
		}
		file := meta.CompactName(base, target)
		r := work.Result{Job: it.Job, Maker: "w0", Verifier: "w1"}
		if data, err := os.ReadFile(filepath.Join(s.mirror, meta.CompactPath(file))); s.fails[file] || err != nil {
			r.Err = errors.New("nobody can")
		} else {
			if s.bad[file] {
				data[len(data)-20] ^= 1
			}
			if r.File, err = o.Scratch(); err == nil {
				_, err = r.File.Write(data)
			}
			if err != nil {
				return nil, err
			}
			r.Size = int64(len(data))
		}
		s.results = append(s.results, r)
	}
	return s, nil
}

func (s *scripted) TakeOver(int) []work.Job        { return nil }
func (s *scripted) Idle()                          {}
func (s *scripted) Close() error                   { return nil }
func (s *scripted) Checked(_ work.Result, _ error) {}
func (s *scripted) Distrusted(string) bool         { return s.barred }

func (s *scripted) Take(work.Job) bool {
	if s.gives {
		s.taken++
	}
	return s.gives
}

func (s *scripted) Next(ctx context.Context) (work.Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.results) == 0 {
		return work.Result{}, io.EOF
	}
	if s.next != nil {
		s.next(ctx, s.n)
	}
	if s.n++; ctx.Err() != nil {
		return work.Result{}, ctx.Err()
	}
	r := s.results[0]
	s.results = s.results[1:]
	return r, nil
}

// What workers alone have applied is applied by the next build, unless the run has ended and none
// of them was bad.
func TestBelieved(t *testing.T) {
	made := []string{compactOf(image2, image4), compactOf(image1, image4), compactOf(image3, image4)}
	for name, c := range map[string]struct {
		farm     *scripted
		cancel   bool // after the first result
		want     string
		believed int // records, after the run
	}{
		"right":                   {&scripted{}, false, "make make make", 0},
		"one comes back":          {&scripted{fails: map[string]bool{made[1]: true}}, false, "make make make", 0},
		"workers were bad":        {&scripted{barred: true}, false, "make make make", 0},
		"one is wrong, and found": {&scripted{barred: true, bad: map[string]bool{made[1]: true}}, false, "make make make", 0},
		"cancelled":               {&scripted{}, true, "make omit omit", 1},
		"cancelled, and wrong":    {&scripted{bad: map[string]bool{made[0]: true}}, true, "make omit omit", 1},
	} {
		t.Run(name, func(t *testing.T) {
			other := newPlace(t, image1, image2, image3, image4)
			other.run()
			p := newPlace(t, image1, image2, image3, image4)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			farm := c.farm
			farm.mirror, p.Farm = other.MirrorDir, farm
			if c.cancel {
				farm.next = func(_ context.Context, n int) {
					if n == 1 {
						cancel()
					}
				}
			}
			_, s, err := Run(ctx, p.Options)
			if (err != nil) != c.cancel || actions(s) != c.want {
				t.Errorf("%v, %s; want %s\n%s", err, actions(s), c.want, &p.log)
			}
			if n := p.believed(made); n != c.believed {
				t.Errorf("%d are believed, want %d", n, c.believed)
			}
			p.Farm = nil
			p.build()
			if n := p.believed(made); n != 0 {
				t.Errorf("%d are believed after a build", n)
			}
			p.run()
			if got, want := p.tree(), other.tree(); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// One for which the builder has no time is left to workers, and each that they have when the time is
// over is left for another run, once.
func TestTimeOfWorkers(t *testing.T) {
	other := newPlace(t, image1, image2, image3, image4)
	other.run()
	for name, c := range map[string]struct {
		time time.Duration
		rate float64
		next func(ctx context.Context, n int)
		want string
	}{
		"too slow a builder": {time.Hour, 1, nil, "make make make"},
		"over at the second": {time.Second, 0, func(ctx context.Context, n int) {
			if n == 1 {
				<-ctx.Done()
			}
		}, "make omit omit"},
	} {
		t.Run(name, func(t *testing.T) {
			for limit := c.time; ; limit *= 4 { // a slow machine has not published one in a second
				p := newPlace(t, image1, image2, image3, image4)
				p.Time = limit
				if c.rate > 0 {
					p.setRate(c.rate)
				}
				farm := &scripted{mirror: other.MirrorDir, next: c.next, gives: c.rate > 0}
				p.Farm = farm
				s := p.run()
				if actions(s) == c.want && farm.taken == 0 {
					return
				} else if limit > 10*time.Second {
					t.Fatalf("%s, %d taken; %+v", actions(s), farm.taken, s)
				}
			}
		})
	}
}

// believed returns how many compact deltas are published that workers alone have applied.
func (p *place) believed(files []string) (n int) {
	p.t.Helper()
	for _, file := range files {
		data, err := os.ReadFile(filepath.Join(p.MirrorDir, ".repo/state", file+".json"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			p.t.Fatal(err)
		}
		if bytes.Contains(data, []byte(`"believed":true`)) {
			n++
		}
	}
	return n
}
