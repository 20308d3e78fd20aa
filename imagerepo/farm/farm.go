package farm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"puavo-image-repository/imagerepo/farm/internal/board"
	"puavo-image-repository/imagerepo/farm/internal/queue"
	"puavo-image-repository/imagerepo/farm/internal/secret"
	"puavo-image-repository/imagerepo/farm/internal/transfer"
	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/imagerepo/internal/work"
	"puavo-image-repository/imagerepo/serve"
)

// Token is the secret that builder and workers share, see ParseToken.
type Token = secret.Token

// ParseToken returns the token in a file with these bytes, of which a file has at most MaxToken.
func ParseToken(data []byte) (Token, error) { return secret.Parse(data) }

// NewToken makes a token. Its method File returns the bytes of a file with it.
func NewToken() Token { return secret.New() }

// MaxToken bounds a file with a token, in bytes.
const MaxToken = secret.MaxToken

// Options say where a farm is.
type Options struct {
	// Queue is "embedded", "embedded:HOST:PORT", or the URL of a NATS server.
	Queue string
	// Listen is where images are served, as host:port; "" is the port after that of an embedded
	// queue, or port 4281 of all addresses.
	Listen string
	Token  Token
	// Dir is a directory in which one builder at a time has workers, by a lock; "" is none.
	Dir     string
	Version string  // of the program
	Recheck float64 // the share of compact deltas that the builder applies too, from 0 to 1
	Log     *slog.Logger
	// Status, which may be nil, is called with what the workers do, every two seconds and by
	// Close.
	Status func(Status)

	// All zero but in tests.
	limits board.Limits
	tick   time.Duration
	wrap   func(net.Listener) net.Listener // that of the images
}

// Worker is what is known of a worker.
type Worker = board.Worker

// Status is what a farm does.
type Status struct {
	Address string    `json:"address"` // of the queue
	Time    time.Time `json:"time"`
	Ended   bool      `json:"ended"`
	Workers []Worker  `json:"workers"` // by name
	Done    int       `json:"done"`    // jobs that workers have done
	Left    int       `json:"left"`    // jobs that are not done
	Seconds float64   `json:"seconds"` // until they are done, about; 0 if that is not known

	Sent      int64 `json:"sent"`      // bytes of images, and of deltas to verify, to workers
	Received  int64 `json:"received"`  // bytes of results
	Rechecked int   `json:"rechecked"` // results that the builder has applied itself
}

// Farm is the builder's end of a farm.
type Farm struct {
	options Options
	lock    *lockfile.Lock // nil without Options.Dir
	server  *queue.Server  // nil unless it is embedded
	conn    *queue.Conn
	jobs    *queue.Jobs
	board   *board.Board
	store   *transfer.Store
	url     string        // of the store, perhaps without a host
	address string        // of the queue
	wake    chan struct{} // has a value when the queue must be changed
	stop    context.CancelFunc
	ended   sync.WaitGroup

	rechecked atomic.Int64

	mu    sync.Mutex
	batch *batch // nil between batches
}

// Open begins a farm, which workers find from then on. Whoever calls it calls Close.
func Open(ctx context.Context, o Options) (_ *Farm, err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.limits, o.tick = cmp.Or(o.limits, board.Usual), cmp.Or(o.tick, 500*time.Millisecond)
	lock, err := lockIn(o.Dir)
	if err != nil {
		return nil, err
	}
	f := &Farm{options: o, lock: lock, board: board.New(o.limits), wake: make(chan struct{}, 1)}
	f.store = transfer.NewStore(f.allow, f.report)
	ctx, f.stop = context.WithCancel(context.WithoutCancel(ctx)) // it ends by Close
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := f.openQueue(); err != nil {
		return nil, err
	}
	if err := f.serve(ctx); err != nil {
		return nil, err
	}
	if f.jobs, err = f.conn.Fresh(ctx); err != nil {
		return nil, err
	}
	if err := f.conn.Answer(f.answer); err != nil {
		return nil, err
	}
	f.ended.Go(func() { f.watch(ctx) }) // until Close
	return f, nil
}

// lockIn locks a directory for the workers of one builder.
func lockIn(dir string) (*lockfile.Lock, error) {
	if dir == "" {
		return nil, nil
	}
	lock, err := lockfile.Acquire(dir, "farm.lock")
	if errors.Is(err, lockfile.ErrHeld) {
		err = fmt.Errorf("another build has the workers: %w", err)
	}
	return lock, err
}

// openQueue begins the server of the queue, if that is embedded, and connects to it.
func (f *Farm) openQueue() (err error) {
	o := f.options
	dial := queue.Options{URL: o.Queue, Token: o.Token, Version: o.Version}
	if address, ok := embedded(o.Queue); ok {
		if f.server, err = queue.Serve(address, o.Token, !isLoopback(address)); err != nil {
			return err
		}
		dial.URL, dial.Server, dial.Pinned = "nats://"+f.server.Address(), f.server, true
	}
	f.address = queue.Redacted(dial.URL)
	f.conn, err = queue.Dial(dial)
	return err
}

// serve serves images to workers, and takes what they send.
func (f *Farm) serve(ctx context.Context) error {
	l, err := f.listen(ctx)
	if err != nil {
		return fmt.Errorf("%w; choose another address with --farm-listen", err)
	}
	if f.options.wrap != nil {
		l = f.options.wrap(l)
	}
	secured, scheme := l, "http"
	if !isLoopback(l.Addr().String()) {
		config, err := f.options.Token.Server()
		if err != nil {
			return errors.Join(err, l.Close())
		}
		secured, scheme = tlsListener(l, config), "https"
	}
	host, port, _ := net.SplitHostPort(l.Addr().String())
	f.url = scheme + "://" + f.named(host) + ":" + port
	f.ended.Go(func() { // until Close
		if err := serve.Run(ctx, secured, f.options.Token.Check(f.store), slog.New(quiet{f.options.Log.Handler()})); ctx.Err() == nil {
			f.options.Log.Warn("no images are served to workers any more", "reason", err)
		}
	})
	return nil
}

// named returns the host by which workers find the images that are served at an address: "" where
// that is the host by which they find the queue.
func (f *Farm) named(address string) string {
	host := cmp.Or(hostOf(f.options.Listen), address)
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		if f.server != nil {
			return ""
		}
		host = hostOf(f.conn.Local())
	}
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// listen listens where images are served: as the options say, else at the port after that of the
// embedded queue, or if that is taken at any.
func (f *Farm) listen(ctx context.Context) (net.Listener, error) {
	var c net.ListenConfig
	if f.options.Listen != "" || f.server == nil {
		return c.Listen(ctx, "tcp", cmp.Or(f.options.Listen, ":4281"))
	}
	usual := next(f.server.Address())
	l, err := c.Listen(ctx, "tcp", usual)
	if err == nil {
		return l, nil
	}
	l, failed := c.Listen(ctx, "tcp", net.JoinHostPort(hostOf(f.server.Address()), "0"))
	if failed == nil {
		f.options.Log.Warn("images are served to workers at another port than usual; open it in the firewall, or choose one with --farm-listen",
			"usual", usual, "port", l.Addr().String(), "reason", err)
	}
	return l, failed
}

// Address returns where workers find the queue, as a URL.
func (f *Farm) Address() string { return f.address }

// Close ends the farm. Workers keep what they have fetched, and wait for the next builder.
func (f *Farm) Close() error {
	f.status(true)
	var err error
	if f.jobs != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		err = f.jobs.Delete(ctx)
		cancel()
	}
	f.stop()
	f.ended.Wait()
	if f.conn != nil {
		f.conn.Close()
	}
	if f.server != nil {
		err = errors.Join(err, f.server.Close())
	}
	if f.lock != nil {
		err = errors.Join(err, f.lock.Release())
	}
	return err
}

// allow reports whether a worker may send the result of a job, of so many bytes at most.
func (f *Farm) allow(id work.ID, worker string) (limit int64, ok bool) {
	b := f.current()
	if b == nil || !f.board.Has(id, worker) {
		return 0, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.jobs[id].Limit, true
}

func (f *Farm) current() *batch {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.batch
}

// answer answers what a worker says of itself.
func (f *Farm) answer(data []byte) []byte {
	r := reply{URL: f.url}
	if s, err := parseState(data); err == nil {
		r.Stop, r.Barred = f.board.Heard(time.Now(), s.Worker, s.Running, s.Fetching)
	}
	return encode(r)
}

// report takes what a worker says of a job.
func (f *Farm) report(data []byte) error {
	r, err := parseReport(data)
	if err != nil {
		return err
	}
	if b := f.current(); b != nil {
		b.report(r)
	}
	return nil // a result that nobody wants any more is no fault
}

// wakeUp has the queue changed soon.
func (f *Farm) wakeUp() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// watch does, until ctx ends, what must be done from time to time, and all changes of the queue.
func (f *Farm) watch(ctx context.Context) {
	tick := time.NewTicker(f.options.tick)
	defer tick.Stop()
	for n := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			n++
			f.look(ctx, n)
		case <-f.wake:
		}
		if b := f.current(); b != nil {
			b.settle(ctx)
		}
	}
}

// look looks at what is overdue, and less often at the rest.
func (f *Farm) look(ctx context.Context, n int) {
	b := f.current()
	if b != nil {
		b.act(f.board.Tick(time.Now()))
	}
	if n%4 == 0 {
		f.status(false)
	}
	if n%10 != 0 || !f.conn.Connected() {
		return
	}
	lost, err := f.jobs.Lost(ctx)
	if err != nil && ctx.Err() == nil {
		f.options.Log.Debug("the queue does not answer", "reason", err)
	}
	if lost && b != nil {
		f.options.Log.Warn("the queue was lost; filling it again")
		b.lost()
	}
}

// State returns what the farm does, or has done.
func (f *Farm) State() Status {
	s := Status{Address: f.address, Time: time.Now(), Workers: f.board.Workers(), Rechecked: int(f.rechecked.Load())}
	s.Sent, s.Received = f.store.Moved()
	left, seconds := f.board.Left()
	running := 0
	for _, w := range s.Workers {
		s.Done += w.Done
		running += w.Running
	}
	if s.Left = left; running > 0 {
		s.Seconds = seconds / float64(running)
	}
	return s
}

// status reports what the farm does.
func (f *Farm) status(ended bool) {
	if f.options.Status == nil {
		return
	}
	s := f.State()
	s.Ended = ended
	f.options.Status(s)
}

// Workers returns what is known of the workers, by name.
func (f *Farm) Workers() []Worker { return f.board.Workers() }
