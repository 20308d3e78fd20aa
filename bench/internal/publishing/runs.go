package publishing

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"puavo-image-repository/bench/internal/files"
	"puavo-image-repository/bench/internal/measure"
)

// whole is what was measured of a publisher that was not disturbed.
type whole struct {
	measure.Figures
	flush float64 // seconds, after its end
	bytes int64   // that were sent to the server
}

func (w whole) seconds() float64 { return w.Seconds }
func (w whole) flushed() float64 { return w.Seconds + w.flush }
func (w whole) cpu() float64     { return w.CPU }

// broken is what was measured of one that was killed and started again.
type broken struct {
	killed int64   // bytes that were sent until then
	bytes  int64   // that were sent in all
	again  int64   // of these
	rest   float64 // seconds of the second run
}

// whole sends the mirror to an empty place.
func (m *measurement) whole(ctx context.Context, h *host, p *publisher) (got whole, err error) {
	place, err := m.place(h)
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, h.remove(place)) }()
	if err := files.Warm(m.mirror.paths()); err != nil {
		return got, err
	}
	h.proxy.Reset(0, nil)
	got.Figures, err = measure.Time(m.process(ctx, p, place))
	if err := errors.Join(err, ctx.Err()); err != nil {
		return got, err
	}
	if got.bytes, err = h.proxy.Sent(ctx); err != nil {
		return got, err
	}
	start := time.Now()
	if err := flush(h.dir(place)); err != nil {
		return got, err
	}
	got.flush = time.Since(start).Seconds()
	return got, m.mirror.arrived(ctx, h.dir(place))
}

// broken kills a publisher half-way, and starts it again.
func (m *measurement) broken(ctx context.Context, h *host, p *publisher) (got broken, err error) {
	place, err := m.place(h)
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, h.remove(place)) }()
	if err := m.kill(ctx, h, p, place); err != nil {
		return got, err
	}
	if got.killed, err = h.proxy.Sent(ctx); err != nil {
		return got, err
	}
	select {
	case <-time.After(m.pause): // the server may still be at work with what it has
	case <-ctx.Done():
		return got, ctx.Err()
	}
	f, err := measure.Time(m.process(ctx, p, place))
	if err := errors.Join(err, ctx.Err()); err != nil {
		return got, fmt.Errorf("started again: %w", err)
	}
	got.rest = f.Seconds
	if got.bytes, err = h.proxy.Sent(ctx); err != nil {
		return got, err
	}
	return got, m.mirror.arrived(ctx, h.dir(place))
}

var errHalf = errors.New("half of the mirror has been sent")

// kill starts a publisher, and kills it when half of the mirror has been sent.
func (m *measurement) kill(ctx context.Context, h *host, p *publisher, place string) error {
	half, kill := context.WithCancelCause(ctx)
	defer kill(nil)
	dead := make(chan struct{})
	h.proxy.Reset(m.mirror.size/2, func() { // more is passed on when the publisher is dead
		kill(errHalf)
		<-dead
	})
	_, err := measure.Time(m.process(half, p, place))
	close(dead)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && context.Cause(half) == errHalf:
		return nil
	}
	return errors.Join(errors.New("it has ended before it was killed"), err)
}

// place makes an empty place at a host, and returns its name.
func (m *measurement) place(h *host) (string, error) {
	m.places++
	place := fmt.Sprint("place-", m.places)
	return place, os.Mkdir(h.dir(place), 0o755)
}

// process returns a publisher, which is killed with all that it has started when ctx ends.
// It gets no configuration but what its command and environment say.
func (m *measurement) process(ctx context.Context, p *publisher, place string) *exec.Cmd {
	command := p.command(place)
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "HOME=" + m.Tmp, "PUAVO_UPDATE_REPOSITORY_SETTINGS="}, p.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}
