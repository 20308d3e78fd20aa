package farm

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"puavo-image-repository/imagerepo/farm/internal/cache"
	"puavo-image-repository/imagerepo/farm/internal/queue"
	"puavo-image-repository/imagerepo/farm/internal/transfer"
	"puavo-image-repository/imagerepo/internal/pool"
	"puavo-image-repository/imagerepo/internal/work"
	"puavo-image-repository/meta/untrusted"
)

// WorkerOptions say what a worker does. Queue, Token, Version and Cache must be given.
type WorkerOptions struct {
	Queue     string // URL of the builder or of a NATS server, see ParseQueue
	Token     Token
	Version   string // of the program, which must be that of the builder
	Name      string // "" is the host's, with something that no other worker has; Cache keeps it
	Jobs      int    // at a time; 0 is as many as there are cores
	Memory    int64  // bytes for all jobs besides mapped files; one that takes more is left to others
	Cache     string // directory for images
	CacheSize int64  // bytes
	Images    string // directory with images that builder and worker share, or ""
	Log       *slog.Logger

	tick   time.Duration // between reports; zero but in tests
	tamper func(*made)   // with what was made, before the builder gets it; nil but in tests
}

// worker is a worker at work.
type worker struct {
	options  WorkerOptions
	conn     *queue.Conn
	transfer *transfer.Client
	cache    *cache.Cache
	cores    int // that a job gets, if there is memory for them

	looking sync.Mutex // held while a job is looked for
	empty   time.Time  // when none was found last; guarded by looking

	mu      sync.Mutex
	url     string // of the builder's images; "" without a builder
	barred  bool
	heard   time.Time // from the builder
	trouble string    // why it could not be reached at last
	running map[work.ID]*running
}

// running is a job in work.
type running struct {
	memory   int64
	stop     context.CancelCauseFunc
	message  *queue.Message
	fetching bool // images, or a delta to verify
}

// task is a job that a worker is about to do.
type task struct {
	ctx     context.Context // ends when the job is stopped
	at      string          // URL of the images
	job     work.Job
	cores   int
	message *queue.Message
}

// errStopped is why a job is given up.
var errStopped = errors.New("the builder does not want it any more")

// silence is how long a builder may be silent before its jobs are given up.
const silence = 30 * time.Second

// Work does the jobs of builders, one builder after another, until ctx ends; then it ends the jobs
// that it has begun, and returns the error of ctx. A builder that it cannot reach is tried again
// and again. Other errors are those of the options and of the cache's directory, and one for a
// queue that does not take the token.
func Work(ctx context.Context, o WorkerOptions) error {
	w, err := newWorker(o)
	if err != nil {
		return err
	}
	defer w.close()
	hard, stop := context.WithCancel(context.WithoutCancel(ctx)) // for what was begun when ctx ends
	defer stop()
	ctx, refuse := context.WithCancelCause(ctx)
	defer refuse(nil)
	var reporting sync.WaitGroup
	reporting.Go(func() { // until all jobs have ended
		if err := w.keepInTouch(hard); err != nil {
			refuse(err)
		}
	})
	_ = pool.Each(ctx, w.options.Jobs, make([]struct{}, w.options.Jobs), func(ctx context.Context, _ struct{}) error {
		return w.work(ctx, hard)
	})
	stop()
	reporting.Wait()
	return context.Cause(ctx) // nothing else ends it
}

func newWorker(o WorkerOptions) (*worker, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Jobs, o.tick = cmp.Or(o.Jobs, runtime.GOMAXPROCS(0)), cmp.Or(o.tick, time.Second)
	at, withTLS, err := ParseQueue(o.Queue)
	if err != nil {
		return nil, err
	}
	c, err := cache.Open(o.Cache, o.CacheSize, o.Images)
	if err != nil {
		return nil, err
	}
	if o.Name, err = named(o.Name, c); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	pinned := strings.HasPrefix(at, "nats:")
	conn, err := queue.Dial(queue.Options{URL: at, Token: o.Token, Version: o.Version, Pinned: pinned, TLS: withTLS, Patient: true})
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &worker{
		options: o, conn: conn, transfer: transfer.NewClient(o.Token), cache: c, running: make(map[work.ID]*running),
		cores: max(1, runtime.GOMAXPROCS(0)/o.Jobs),
	}, nil
}

// named returns the name of a worker. One without a given name keeps the one that it makes in its
// cache: a builder knows by it whom it has barred, and who has made what.
func named(name string, c *cache.Cache) (string, error) {
	if name == "" {
		return c.Name(checkName, func() string {
			host, _ := os.Hostname()
			return strings.Map(plain, host) + "-" + strings.ToLower(rand.Text()[:6])
		})
	}
	return name, checkName(name)
}

func plain(r rune) rune {
	if r < 0x80 && checkName("x"+string(r)) == nil {
		return r
	}
	return '-'
}

func (w *worker) close() {
	w.conn.Close()
	w.transfer.Close()
	_ = w.cache.Close() // all that matters in it is checked
}

// keepInTouch checks in with the builder until ctx ends. It returns an error if that will never be
// possible.
func (w *worker) keepInTouch(ctx context.Context) error {
	tick := time.NewTicker(w.options.tick)
	defer tick.Stop()
	for {
		if err := w.checkIn(ctx); errors.Is(err, queue.ErrRefused) {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// state returns what the worker says of itself.
func (w *worker) state() state {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := state{Worker: w.options.Name, Running: []work.ID{}}
	for id, j := range w.running {
		s.Running = append(s.Running, id)
		if j.fetching {
			s.Fetching = append(s.Fetching, id)
		}
	}
	return s
}

// checkIn says what the worker works on, and does what the builder answers.
func (w *worker) checkIn(ctx context.Context) error {
	answer, err := w.conn.Ask(ctx, encode(w.state()))
	var r reply
	if err == nil {
		err = json.Unmarshal(answer, &r)
	}
	if err == nil {
		r.URL, err = w.complete(r.URL)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		return w.unheard(cmp.Or(w.conn.Trouble(), err))
	}
	if w.url == "" {
		w.options.Log.Info("found a builder", "images", r.URL)
	}
	if r.Barred && !w.barred {
		w.options.Log.Warn("the builder gives this worker no more jobs, as it was wrong; check the memory and the disk of this machine")
	}
	w.url, w.barred, w.heard, w.trouble = r.URL, r.Barred, time.Now(), ""
	for _, id := range r.Stop {
		if j := w.running[id]; j != nil {
			j.stop(errStopped)
		}
	}
	for _, j := range w.running {
		j.message.Working()
	}
	return nil
}

// unheard does what must be done without a builder, for this reason, and returns it. The caller
// holds the mutex.
func (w *worker) unheard(reason error) error {
	if text := reason.Error(); text != w.trouble && w.url == "" {
		w.options.Log.Info("waiting for a builder", "version", w.options.Version, "reason", untrusted.Show(text))
		w.trouble = text
	}
	if w.url != "" && time.Since(w.heard) > silence {
		w.options.Log.Info("the builder is gone", "reason", reason)
		w.url, w.barred = "", false
		for _, j := range w.running {
			j.stop(errStopped)
		}
	}
	return reason
}

// complete returns the URL of the images, with the host of the queue if it has none. It refuses one
// on another machine without TLS.
func (w *worker) complete(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return "", errors.New("the builder names no URL for its images")
	}
	if u.Hostname() == "" {
		u.Host = net.JoinHostPort(w.conn.Host(), u.Port())
	}
	if u.Scheme == "http" && !isLoopback(u.Host) {
		return "", errors.New("the builder serves images without TLS")
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// free returns how many bytes of memory no job takes. The caller holds the mutex.
func (w *worker) free() int64 {
	n := w.options.Memory
	for _, j := range w.running {
		n -= j.memory
	}
	return n
}

// coresFor returns on how many cores a job is done with that many free bytes of memory: as many as
// its share of the memory allows, and what is free; 0 if it does not fit at all.
func (w *worker) coresFor(j work.Job, free int64) int {
	n := w.cores
	for n > 1 && j.Memory(n) > min(w.options.Memory/int64(w.options.Jobs), free) {
		n--
	}
	if j.Memory(n) > free {
		return 0
	}
	return n
}

// work does one job after another until ctx ends. What it has begun then, it ends in hard.
func (w *worker) work(ctx, hard context.Context) error {
	k := &maker{worker: w}
	defer k.clear()
	failed := 0 // jobs, one after another
	for ctx.Err() == nil {
		t, err := w.next(ctx, hard)
		if err == nil && w.begin(k, t) {
			failed = 0
			continue
		}
		k.clear() // its memory is for others meanwhile
		pause := w.options.tick
		if err == nil {
			pause <<= min(failed, 6) // so that it does not try all jobs at once
			failed++
		} else if !errors.Is(err, queue.ErrEmpty) && ctx.Err() == nil {
			w.options.Log.Debug("no job can be had", "reason", err)
		}
		wait(ctx, pause)
	}
	return ctx.Err()
}

// next returns a job for which it has reserved the memory, in a context of hard. The caller calls
// begin. Where no job waits that fits into the free memory, the error is queue.ErrEmpty.
func (w *worker) next(ctx, hard context.Context) (*task, error) {
	w.looking.Lock() // so that nobody else takes the memory meanwhile
	defer w.looking.Unlock()
	w.mu.Lock()
	at, barred, free := w.url, w.barred, w.free()
	w.mu.Unlock()
	// With many workers, looking takes the server long.
	if at == "" || barred || time.Since(w.empty) < w.options.tick {
		return nil, queue.ErrEmpty
	}
	m, err := w.conn.Next(ctx, w.options.Name, free, w.cache.Holds)
	if errors.Is(err, queue.ErrEmpty) {
		w.empty = time.Now()
	}
	if err != nil {
		return nil, err
	}
	j, err := work.Parse(m.Data())
	if err != nil {
		w.options.Log.Warn("the queue has a job that this worker does not know", "reason", err)
		m.Back(time.Minute)
		return nil, err
	}
	return w.reserve(hard, at, j, m)
}

// reserve takes the memory for a job. One that does not fit, or that is in work here, goes back to
// the queue. The caller holds looking.
func (w *worker) reserve(hard context.Context, at string, j work.Job, m *queue.Message) (*task, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	cores := w.coresFor(j, w.free())
	if cores == 0 || w.running[j.ID()] != nil {
		m.Back(2 * w.options.tick)
		return nil, queue.ErrEmpty
	}
	ctx, stop := context.WithCancelCause(hard)
	w.running[j.ID()] = &running{memory: j.Memory(cores), stop: stop, message: m}
	return &task{ctx: ctx, at: at, job: j, cores: cores, message: m}, nil
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// fetching notes that a job waits for what it fetches, until done is called.
func (w *worker) fetching(id work.ID) (done func()) {
	note := func(is bool) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.running[id].fetching = is
	}
	note(true)
	return func() { note(false) }
}

// begin does a job, reports whether it could, and frees the memory of the job.
func (w *worker) begin(k *maker, t *task) bool {
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.running[t.job.ID()].stop(nil)
		delete(w.running, t.job.ID())
	}()
	if err := w.checkIn(t.ctx); err != nil { // the builder must know before there is a result
		t.message.Back(2 * w.options.tick)
		return false
	}
	return w.do(k, t)
}
