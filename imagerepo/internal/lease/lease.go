// Package lease keeps two publishers from one destination.
//
// A lease is the file .publishing.json at the destination, which only one publisher can
// create. Its holder renews it each minute by writing it again:
//
//	{"holder": "host a, process 12", "since": "2024-01-20T12:00:00Z", "id": "…", "host": "…", "process": 12}
//
// One that was not renewed for ten minutes, by the clock of the destination, is taken over:
// its holder is dead or cut off. So is one whose holder was a process of this machine that
// has ended. A younger one is an error that says who holds it.
//
// Of several who take over at once, one replaces the file that all have found, see
// store.Store.Replace, and the others find that it has. Where a store cannot compare and
// replace in one step, two may write: the one whose file is there after a pause has the
// lease. A holder that finds another's file, or could not renew its own for nine minutes, has lost
// the lease: its context ends with ErrLost, before another takes it over, and it changes
// nothing more.
package lease

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"puavo-image-repository/imagerepo/internal/store"
	"puavo-image-repository/meta/untrusted"
)

// Name is the name of the file.
const Name = ".publishing.json"

const most = 4096 // bytes of the file

var (
	// ErrHeld is wrapped by the error for a lease that another publisher holds.
	ErrHeld = errors.New("another publisher is at work")
	// ErrLost is wrapped by the error for a lease that another publisher has taken over.
	ErrLost = errors.New("lost the lock")
)

// Times are how long things take. The zero Times are those of the package documentation.
type Times struct {
	Renew time.Duration // from one renewal to the next
	Stale time.Duration // after this long without one, a lease is taken over
	Pause time.Duration // before a lease that was taken over is certain
}

func (t Times) orDefault() Times {
	if t == (Times{}) {
		return Times{time.Minute, 10 * time.Minute, 3 * time.Second}
	}
	return t
}

// holder is what the file says.
type holder struct {
	Holder  string    `json:"holder"`
	Since   time.Time `json:"since"`
	ID      string    `json:"id"`
	Host    string    `json:"host"` // of the kernel that runs, and its name space of processes
	Process int       `json:"process"`
}

// Lease is one that is held.
type Lease struct {
	store  store.Store
	times  Times
	self   holder
	until  time.Time // when it is lost unless it is renewed; by the wall clock, which a machine that sleeps keeps
	cancel context.CancelCauseFunc
	ended  chan struct{} // closed when it is no longer renewed
}

// Take takes the lease of a destination, and returns a context that ends when it is lost.
// The caller calls Release.
func Take(ctx context.Context, s store.Store, t Times, log *slog.Logger) (context.Context, *Lease, error) {
	l := &Lease{store: s, times: t.orDefault(), self: self(), ended: make(chan struct{})}
	l.until = l.lasts()
	err := s.Create(ctx, Name, l.self.encode())
	if errors.Is(err, fs.ErrExist) {
		err = l.takeOver(ctx, log)
	}
	if err != nil {
		return nil, nil, err
	}
	ctx, l.cancel = context.WithCancelCause(ctx)
	go l.renew(ctx) // it ends with ctx, and Release waits for that
	return ctx, l, nil
}

// takeOver takes a lease over that is there, if its holder is gone.
func (l *Lease) takeOver(ctx context.Context, log *slog.Logger) error {
	found, err := l.look(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w, or was a moment ago; run again", l.store, ErrHeld)
	} else if err != nil {
		return err
	}
	if found.age < l.times.Stale && !found.ended() {
		return l.held(found)
	}
	log.Warn("taking over from a publisher that is gone", "destination", l.store.String(), "holder", untrusted.Show(found.Holder), "silent_for", found.age.Round(time.Second).String())
	l.until = l.lasts()
	err = l.store.Replace(ctx, Name, found.data, l.self.encode())
	if err == nil {
		err = l.wait(ctx)
	} else if errors.Is(err, store.ErrOther) {
		err = nil
	}
	if err != nil {
		return err
	}
	return l.wasTaken(ctx)
}

// wait waits until another taker that was a little slower has written.
func (l *Lease) wait(ctx context.Context) error {
	select {
	case <-time.After(l.times.Pause):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wasTaken returns an error unless this lease is the one that was taken over.
func (l *Lease) wasTaken(ctx context.Context) error {
	found, err := l.look(ctx)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: %w, or was a moment ago; run again", l.store, ErrHeld)
	case err == nil && found.ID != l.self.ID:
		return l.held(found)
	}
	return err
}

// held returns the error for a lease that another publisher holds.
func (l *Lease) held(by found) error {
	return fmt.Errorf("%s: %w: %s since %s, last heard of %v ago; wait for its end. If it is dead, the lock is free when it was silent for %v",
		l.store, ErrHeld, untrusted.Show(by.Holder), by.Since.Local().Format(time.DateTime), by.age.Round(time.Second), l.times.Stale)
}

// found is a lease as it is at the destination.
type found struct {
	holder
	data []byte        // of the file
	age  time.Duration // since it was written
}

// look returns the lease that is at the destination.
func (l *Lease) look(ctx context.Context) (is found, err error) {
	file, err := l.store.Stat(ctx, Name)
	if err != nil {
		return is, err
	}
	now, err := l.store.Now(ctx)
	if err != nil {
		return is, err
	}
	f, err := l.store.Open(ctx, Name)
	if err != nil {
		return is, err
	}
	defer f.Close()
	is.age = max(now.Sub(file.Modified), 0)
	is.data, err = untrusted.ReadAll(f, most)
	if err == nil && json.Unmarshal(is.data, &is.holder) != nil { // its age counts, whatever it says
		is.holder = holder{Holder: "unknown"}
	}
	return is, err
}

// check returns an error unless the lease at the destination is this one.
func (l *Lease) check(ctx context.Context) error {
	other, err := l.look(ctx)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: %w: %s was removed; run again", l.store, ErrLost, Name)
	case err != nil:
		return err
	case other.ID != l.self.ID:
		return fmt.Errorf("%s: %w to %s; run again when that has ended", l.store, ErrLost, untrusted.Show(other.Holder))
	}
	return nil
}

// renew renews the lease until ctx ends, and ends ctx when it is lost: also where the
// destination does not answer, so that no two publishers act as its holder.
func (l *Lease) renew(ctx context.Context) {
	defer close(l.ended)
	for {
		select {
		case <-time.After(l.times.Renew):
		case <-ctx.Done():
			return
		}
		next, err := l.lasts(), l.renewOnce(ctx)
		switch {
		case err == nil:
			l.until = next
		case errors.Is(err, ErrLost), l.isOver():
			l.cancel(fmt.Errorf("%w: %w", ErrLost, err))
			return
		}
	}
}

// lasts returns until when a lease lasts that is written now.
func (l *Lease) lasts() time.Time { return time.Now().Round(0).Add(l.times.Stale - l.times.Renew) }

func (l *Lease) isOver() bool { return time.Now().Round(0).After(l.until) }

// renewOnce writes the file again, if it is still this lease's, in time.
func (l *Lease) renewOnce(ctx context.Context) error {
	ctx, cancel := context.WithDeadline(ctx, l.until)
	defer cancel()
	own := l.self.encode()
	err := l.store.Replace(ctx, Name, own, own)
	if errors.Is(err, store.ErrOther) {
		return cmp.Or(l.check(ctx), err)
	}
	return err
}

// Check returns an error if the lease was lost, by looking at the destination.
func (l *Lease) Check(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return l.check(ctx)
}

// Release gives the lease back, unless it was lost.
func (l *Lease) Release(ctx context.Context) error {
	l.cancel(nil)
	<-l.ended
	if err := l.check(ctx); errors.Is(err, ErrLost) {
		return nil
	} else if err != nil {
		return err
	}
	return l.store.Remove(ctx, Name)
}

func (h holder) encode() []byte {
	data, _ := json.Marshal(h) // strings, a time and a number
	return append(data, '\n')
}

// self describes this process.
func self() holder {
	name, _ := os.Hostname()
	return holder{
		Holder: fmt.Sprintf("host %s, process %d", name, os.Getpid()), Since: time.Now().UTC().Truncate(time.Second),
		ID: rand.Text(), Host: thisHost(), Process: os.Getpid(),
	}
}

// thisHost names the kernel that runs and the name space in which it numbers this process,
// "" where that is unknown.
func thisHost() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	space, err2 := os.Readlink("/proc/self/ns/pid")
	if errors.Join(err, err2) != nil {
		return ""
	}
	return strings.TrimSpace(string(boot)) + " " + space
}

// ended reports whether the holder was a process of this machine that has ended.
func (h holder) ended() bool {
	if h.Host == "" || h.Host != thisHost() {
		return false
	}
	return h.Process > 0 && errors.Is(unix.Kill(h.Process, 0), unix.ESRCH)
}
