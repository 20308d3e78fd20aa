package farm

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/delta/compact"
	"puavo-image-repository/delta/compact/squashfs"
	"puavo-image-repository/delta/mmap"
	"puavo-image-repository/imagerepo/farm/internal/transfer"
	"puavo-image-repository/imagerepo/internal/compacts"
	"puavo-image-repository/imagerepo/internal/work"
	"puavo-image-repository/meta/untrusted"
)

// made is what a worker has made, before it says so.
type made struct {
	job    work.Job
	at     string // URL of the images
	file   *os.File
	size   int64
	report report
	ctx    context.Context
}

// do does a job, reports what came of it, and returns whether it was not this worker that failed.
func (w *worker) do(k *maker, t *task) bool {
	start, ctx, j := time.Now(), t.ctx, t.job
	d := &made{job: j, at: t.at, report: report{Worker: w.options.Name, Job: j.ID()}, ctx: ctx}
	err := context.Cause(ctx)
	if err == nil {
		err = k.do(ctx, d, t.cores)
	}
	if d.file != nil {
		defer d.file.Close()
	}
	if w.options.tamper != nil && ctx.Err() == nil {
		w.options.tamper(d)
	}
	if err == nil && d.file != nil {
		err = w.transfer.Send(ctx, t.at, d.report.Job, w.options.Name, d.file, d.size)
	}
	log := w.options.Log.With("kind", string(j.Kind), "base", j.Base.BLAKE3.String()[:8], "target", j.Target.BLAKE3.String()[:8])
	defer t.message.Done() // the builder puts it there again if it wants it
	if ctx.Err() != nil || errors.Is(err, transfer.ErrGone) {
		log.Info("job", "result", "stopped")
		return true
	}
	d.report.Size = d.size
	if err != nil {
		d.report = report{Worker: w.options.Name, Job: d.report.Job, Error: untrusted.Show(err.Error())}
	}
	if err := w.transfer.Report(ctx, t.at, encode(d.report)); err != nil && ctx.Err() == nil {
		log.Warn("the builder does not take the result", "reason", err)
	}
	log.Info("job", "result", d.report.outcome(), "bytes", d.size, "seconds", fmt.Sprintf("%.1f", time.Since(start).Seconds()))
	return err == nil
}

// maker does one job of a worker at a time. It keeps the index of the last base.
type maker struct {
	worker *worker
	base   *image // whose index it is
	index  *delta.Index
	of     work.Job // that the index was made for
}

// clear frees the index.
func (k *maker) clear() {
	if k.index != nil {
		k.index.Close()
		k.base.close()
	}
	k.index, k.base = nil, nil
}

// image is an image of the cache, mapped.
type image struct {
	data  []byte
	file  *os.File
	close func()
}

// open opens an image of a job, which it fetches if it must. The empty one needs nothing.
func (k *maker) open(ctx context.Context, d *made, f work.File) (*image, error) {
	if f == (work.File{}) {
		return &image{close: func() {}}, nil
	}
	fetched := k.worker.fetching(d.report.Job)
	path, release, err := k.worker.cache.Get(ctx, f, func(ctx context.Context, from int64) (io.ReadCloser, error) {
		return k.worker.transfer.Image(ctx, d.at, f, from)
	})
	fetched()
	if err != nil {
		return nil, err
	}
	file, err := os.Open(path)
	if err != nil {
		release()
		return nil, err
	}
	data, unmap, err := mmap.Map(file)
	if err != nil {
		release()
		return nil, errors.Join(err, file.Close())
	}
	return &image{data, file, func() {
		_ = cmp.Or(unmap(), file.Close()) // it was only read
		release()
	}}, nil
}

// do does a job, on so many cores.
func (k *maker) do(ctx context.Context, d *made, cores int) error {
	if d.job.Kind == work.RDiff {
		return k.rdiff(ctx, d, cores)
	}
	k.clear()
	base, err := k.open(ctx, d, d.job.Base)
	if err != nil {
		return err
	}
	defer base.close()
	if d.job.Kind == work.Verify {
		return k.verify(ctx, d, base, cores)
	}
	target, err := k.open(ctx, d, d.job.Target)
	if err != nil {
		return err
	}
	defer target.close()
	return k.compact(ctx, d, base, target, cores)
}

// rdiff makes an rdiff delta.
func (k *maker) rdiff(ctx context.Context, d *made, cores int) error {
	if err := k.prepare(ctx, d, cores); err != nil {
		return err
	}
	target, err := k.open(ctx, d, d.job.Target)
	if err != nil {
		return err
	}
	defer target.close()
	return k.write(ctx, d, func(w io.Writer) error {
		_, err := k.index.Diff(ctx, w, target.data, nil)
		return err
	})
}

// prepare makes the index of a job's base, unless it is the last one.
func (k *maker) prepare(ctx context.Context, d *made, cores int) (err error) {
	j := d.job
	if k.index != nil && k.of.Base == j.Base && k.of.Index == j.Index && k.of.Effort == j.Effort {
		return nil
	}
	k.clear()
	if k.base, err = k.open(ctx, d, j.Base); err != nil {
		return err
	}
	k.index, err = delta.NewIndex(ctx, k.base.data, delta.Options{Memory: j.Index, Effort: j.Effort, Cores: cores})
	if err != nil {
		k.base.close()
		k.index, k.base = nil, nil
	}
	k.of = j
	return err
}

// compact makes a compact delta.
func (k *maker) compact(ctx context.Context, d *made, base, target *image, cores int) error {
	blocks := func(im *image) (c compact.Image, err error) {
		c.Bytes = im.data
		err = mmap.Guard(func() error { c.Blocks = squashfs.Blocks(im.data); return nil })
		return c, err
	}
	from, err := blocks(base)
	if err != nil {
		return err
	}
	to, err := blocks(target)
	if err != nil {
		return err
	}
	return k.write(ctx, d, func(w io.Writer) error {
		_, err := compact.Encode(ctx, w, from, to, compact.Options{
			Memory: d.job.Index + int64(cores)*work.SearchMemory, Effort: d.job.Effort, Cores: cores, Scratch: k.worker.cache.Scratch,
		})
		return err
	})
}

// errLimit ends a delta that gets larger than its job allows.
var errLimit = errors.New("the delta is larger than the limit")

// write writes a delta to a scratch file.
func (k *maker) write(ctx context.Context, d *made, diff func(io.Writer) error) (err error) {
	if d.file, err = k.worker.cache.Scratch(); err != nil {
		return err
	}
	to := &limited{w: bufio.NewWriterSize(d.file, 1<<20), left: d.job.Limit}
	if err = diff(to); err == nil {
		err = to.w.Flush()
	}
	d.size = d.job.Limit - to.left
	if errors.Is(err, errLimit) && ctx.Err() == nil {
		d.report.TooLarge = true
		err = errors.Join(d.file.Close())
		d.file, d.size = nil, 0
	}
	return err
}

type limited struct {
	w    *bufio.Writer
	left int64 // bytes
}

func (l *limited) Write(p []byte) (int, error) {
	if int64(len(p)) > l.left {
		return 0, errLimit
	}
	l.left -= int64(len(p))
	return l.w.Write(p)
}

// verify fetches a compact delta, applies it, and compares what that makes.
func (k *maker) verify(ctx context.Context, d *made, base *image, cores int) error {
	file, err := k.worker.cache.Scratch()
	if err != nil {
		return err
	}
	defer file.Close()
	fetched := k.worker.fetching(d.report.Job)
	err = k.worker.transfer.Fetch(ctx, d.at, d.job.Delta, file)
	fetched()
	if err != nil {
		return err
	}
	images := compacts.Images{Base: sums(d.job.Base), Target: sums(d.job.Target), Cores: cores}
	if base.file != nil {
		images.From = base.file
	}
	digest := cksum.NewBLAKE3()
	target := &counter{w: digest}
	_, err = compacts.Apply(ctx, bufio.NewReaderSize(io.NewSectionReader(file, 0, d.job.Delta.Size), 1<<20), images, target)
	switch {
	case errors.Is(err, compacts.ErrWrong) || errors.Is(err, compacts.ErrOther):
		d.report.Wrong = true
		return ctx.Err()
	case err != nil:
		return err
	}
	d.report.Wrong = target.n != d.job.Target.Size || cksum.Digest256(digest.Sum(nil)) != d.job.Target.BLAKE3
	return nil
}

func sums(f work.File) cksum.Sums { return cksum.Sums{Size: f.Size, BLAKE3: f.BLAKE3} }

// counter counts what is written to it.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return c.w.Write(p)
}
