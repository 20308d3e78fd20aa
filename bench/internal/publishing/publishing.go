// Package publishing measures how long it takes to send a mirror to a server on this
// machine: by our publisher, and by tools that copy directories. It measures, too, how much
// each of them sends again when it was killed half-way.
//
//	publisher ──> servers.Proxy ──> sshd or versitygw ──> a directory on the disk
//	              counts bytes
//
// In each round all publishers run in turn, each to an empty place, which is removed
// afterwards. A ratio is that of two runs of one round.
package publishing

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"puavo-image-repository/bench/internal/measure"
	"puavo-image-repository/bench/internal/report"
	"puavo-image-repository/bench/internal/servers"
)

// Options say what is sent. All paths are absolute.
type Options struct {
	Mirror    string // a directory, which does not change meanwhile
	Publisher string // our command, puavo-update-repository
	Tmp       string // an empty directory; servers and what they have are put below it
	Rounds    int    // at least 1

	pause time.Duration // before a publisher that was killed is started again
}

// measurement is what all runs share.
type measurement struct {
	Options
	mirror mirror
	places int // that were made
}

// Measure measures all publishers that are installed, and writes a report without its
// title. It takes some minutes for each round and GB.
func Measure(ctx context.Context, o Options, w io.Writer) error {
	if o.pause == 0 {
		o.pause = time.Second
	}
	m := &measurement{Options: o}
	var err error
	if m.mirror, err = newMirror(o.Mirror); err != nil {
		return err
	}
	if err := preface(w); err != nil {
		return err
	}
	measured := 0
	for _, start := range []func(context.Context, Options) (*host, error){sshHost, s3Host} {
		h, err := start(ctx, o)
		if errors.Is(err, errMissing) {
			continue
		}
		if err == nil {
			err = m.host(ctx, h, w)
		}
		if err != nil {
			return err
		}
		measured++
	}
	if measured == 0 {
		return errors.New("neither sshd nor versitygw is installed; install openssh-server and openssh-client, or versitygw as .ci/run does")
	}
	return nil
}

// host measures all publishers of a host, and stops it.
func (m *measurement) host(ctx context.Context, h *host, w io.Writer) error {
	err := m.rounds(ctx, h)
	h.stop()
	if err != nil {
		return fmt.Errorf("%s: %w", h.name, err)
	}
	return m.write(w, h)
}

// rounds measures all publishers of a host in turn. Every second round is in the opposite
// order.
func (m *measurement) rounds(ctx context.Context, h *host) error {
	for round := range m.Rounds {
		order := slices.Clone(h.publishers)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, p := range order {
			if err := m.round(ctx, h, p); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
		}
	}
	return nil
}

// round measures a publisher once, undisturbed and killed.
func (m *measurement) round(ctx context.Context, h *host, p *publisher) error {
	whole, err := m.whole(ctx, h, p)
	if err != nil {
		return err
	}
	b, err := m.broken(ctx, h, p)
	if err != nil {
		return fmt.Errorf("when it was killed: %w", err)
	}
	b.again = b.bytes - whole.bytes
	p.whole, p.broken = append(p.whole, whole), append(p.broken, b)
	return nil
}

// preface writes what the results are of.
func preface(w io.Writer) error {
	for _, line := range versions() {
		fmt.Fprintf(w, "- %s\n", line)
	}
	_, err := fmt.Fprintln(w, `
A mirror, without its private folder .repo, is sent to a server on this machine, through a proxy that counts bytes. "ours" is
puavo-update-repository publish. The others copy the same files: rsync -a --partial -e ssh, and rclone sync. All run with their default
options otherwise, and use the same cipher for sshd, `+servers.Cipher+`. The mirror was read just before, as far as the page cache
holds it. The place at the server is empty before each run. What arrives is compared with the mirror.

Only ours compares the digest of each file with the documents of the mirror while it sends the file, and lets clients use the destination
at every instant. At sshd it also flushes what it sends to the disk of the server.

Times are seconds, medians of the rounds. "MB/s" is the size of the mirror by the time. "flush" is how long it takes after the run to
flush what has arrived to the disk of the server. "times faster" is compared with the first row, in the same round, and so is "flushed",
with the flush included in both. "CPU" is what the processes of the publisher take of all processors, by user and system, without the
server, and "times less" compares it. "resident" is the peak memory of the largest of these processes. "sent" are all bytes that go to the
server, with what SSH or HTTP add to the files.

In the second table, all processes of the publisher are killed by SIGKILL when half of the mirror has been sent, and the same command runs
again. "killed at" is what was sent until then, with what the system had taken from the publisher and sent after its end; "in all" is what
both runs sent. "sent again" is how much that is more than "sent" of an undisturbed run in the same round, and "share" is that by the size
of the mirror. It is below 0 where rsync sends less: of a file that arrived in part, it sends only what it does not find in that part.
"rest" is the time of the second run; in that of ours are three seconds in which it takes over the lock of the one that was killed.`)
	return err
}

// write writes the tables of a host.
func (m *measurement) write(w io.Writer, h *host) error {
	fmt.Fprintf(w, "\n## %s\n\n%d files of %s bytes, %d rounds, after them a load of %s.\n\n", h.name, len(m.mirror.files),
		report.Group(m.mirror.size), m.Rounds, strings.Join(measure.Load(), " "))
	size, reference := float64(m.mirror.size), h.publishers[0]
	t := report.NewWriter(w, "publisher", "time s", "MB/s", "times faster", "flush s", "flushed", "CPU s", "times less", "resident MB", "sent MB")
	for _, p := range h.publishers {
		of := func(of func(whole) float64) float64 { return measure.Column(p.whole, of) }
		seconds := of(whole.seconds)
		t.Line(p.name, report.Hundredths(seconds), report.Tenths(size/1e6/seconds), p.times(reference, whole.seconds),
			report.Hundredths(of(func(r whole) float64 { return r.flush })), p.times(reference, whole.flushed),
			report.Hundredths(of(whole.cpu)), p.times(reference, whole.cpu),
			report.MB(of(func(r whole) float64 { return float64(r.Resident) })), report.MB(of(func(r whole) float64 { return float64(r.bytes) })))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	t = report.NewWriter(w, "killed half-way", "killed at MB", "in all MB", "sent again MB", "share", "rest s")
	for _, p := range h.publishers {
		mb := func(of func(broken) int64) float64 {
			return measure.Column(p.broken, func(b broken) float64 { return float64(of(b)) / 1e6 })
		}
		again := mb(func(b broken) int64 { return b.again })
		t.Line(p.name, report.Tenths(mb(func(b broken) int64 { return b.killed })), report.Tenths(mb(func(b broken) int64 { return b.bytes })),
			report.Tenths(again), fmt.Sprintf("%.1f %%", 100*again*1e6/size),
			report.Hundredths(measure.Column(p.broken, func(b broken) float64 { return b.rest })))
	}
	return t.Flush()
}

// times writes how many times less a publisher takes of something than the reference: the
// median of the rounds.
func (p *publisher) times(reference *publisher, of func(whole) float64) string {
	var ratios []float64
	for i, r := range p.whole {
		ratios = append(ratios, of(reference.whole[i])/of(r))
	}
	return report.Hundredths(measure.Median(ratios))
}
