package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"puavo-image-repository/delta"
	"puavo-image-repository/delta/mmap"
)

// action is one of rdiff's commands, with the number of names it takes.
type action struct {
	name        string
	least, most int
	run         func(ctx context.Context, j *job, names []string) error
}

// actions in the order in which a name cut short is looked for.
var actions = []action{
	{"signature", 0, 2, sign},
	{"delta", 1, 3, makeDelta},
	{"patch", 1, 3, patch},
	{"diff", 2, 3, diff},
	{"info", 0, 1, info},
}

// findAction returns the action of the first name, and the other names, with a "-" for
// each that is missing.
func findAction(names []string) (action, []string, error) {
	if len(names) > 0 {
		for _, a := range actions {
			if !strings.HasPrefix(a.name, names[0]) {
				continue
			}
			names = names[1:]
			if n := len(names); n < a.least || n > a.most {
				return a, nil, usage("%s takes %d to %d names, got %d", a.name, a.least, a.most, n)
			}
			return a, append(names, slices.Repeat([]string{"-"}, a.most-len(names))...), nil
		}
	}
	return action{}, nil, usage("you must specify an action: signature, delta, patch, diff or info")
}

// sign is: signature [BASIS [SIGNATURE]].
func sign(ctx context.Context, j *job, names []string) error {
	f, size, err := j.open(ctx, names[0])
	if err != nil {
		return err
	}
	out, err := j.create(ctx, names[1])
	if err != nil {
		return err
	}
	form, err := j.form(size)
	if err != nil {
		return err
	}
	start := time.Now()
	signer := delta.NewSigner(out, form)
	n, err := io.CopyBuffer(struct{ io.Writer }{signer}, reader{ctx, f}, make([]byte, 256<<10))
	if err := errors.Join(err, signer.Close()); err != nil {
		return fmt.Errorf("signing %s: %w", f.Name(), err)
	}
	blocks := (n + int64(form.BlockLen) - 1) / int64(form.BlockLen)
	j.statistics("signature", fmt.Sprintf("signature[%d blocks, %d bytes per block]", blocks, form.BlockLen), n, out.n, start)
	return out.commit()
}

// form returns the form of the signature that the options ask for.
func (j *job) form(size int64) (delta.Signature, error) {
	magic := map[[2]bool]delta.Magic{
		{false, false}: delta.RabinKarpBLAKE2, {false, true}: delta.RabinKarpMD4,
		{true, false}: delta.RollsumBLAKE2, {true, true}: delta.RollsumMD4,
	}[[2]bool{j.rollsum, j.md4}]
	form, err := delta.NewSignature(magic, j.blockLen, j.strongLen, size)
	if err != nil {
		return form, fmt.Errorf("%w: %w; change --block-size or --sum-size", errParam, err)
	}
	shortest, err := delta.NewSignature(magic, j.blockLen, delta.Shortest, size)
	if err == nil && size >= 0 && form.StrongLen < shortest.StrongLen {
		fmt.Fprintf(j.stderr, "rdiff: warning: sum size %d is less than the %d recommended for %d bytes in blocks of %d\n",
			form.StrongLen, shortest.StrongLen, size, form.BlockLen)
	}
	return form, nil
}

// longestStreamed is the length in bytes of the longest blocks for which a delta is
// made of a stream, since the memory that takes grows with them.
const longestStreamed = 1 << 20

// makeDelta is: delta SIGNATURE [NEWFILE [DELTA]].
func makeDelta(ctx context.Context, j *job, names []string) error {
	signature, err := j.mapped(ctx, names[0])
	if err != nil {
		return err
	}
	target, size, err := j.open(ctx, names[1])
	if err != nil {
		return err
	}
	out, err := j.create(ctx, names[2])
	if err != nil {
		return err
	}
	start := time.Now()
	blocks, err := delta.LoadSignature(ctx, signature)
	if err != nil {
		return fmt.Errorf("reading the signature %s: %w", nameOf(names[0]), err)
	}
	defer blocks.Close()
	j.statistics("loadsig", fmt.Sprintf("signature[%d blocks, %d bytes per block]", blocks.Blocks, blocks.BlockLen), int64(len(signature)), 0, start)
	if !atStart(target, size) && blocks.BlockLen <= longestStreamed {
		return j.diff(out, func() (delta.Stats, error) { return blocks.DiffStream(ctx, out, reader{ctx, target}, nil) })
	}
	data, err := j.bytes(target, size)
	if err != nil {
		return err
	}
	return j.diffMapped(ctx, out, data, blocks.Diff)
}

// indexMemory is what the index takes unless an option says otherwise, in bytes.
const indexMemory = 64 << 20

// diff is: diff BASIS NEWFILE [DELTA].
func diff(ctx context.Context, j *job, names []string) error {
	base, err := j.mapped(ctx, names[0])
	if err != nil {
		return err
	}
	target, err := j.mapped(ctx, names[1])
	if err != nil {
		return err
	}
	out, err := j.create(ctx, names[2])
	if err != nil {
		return err
	}
	if j.compact {
		return j.makeCompact(ctx, out, base, target)
	}
	index, err := delta.NewIndex(ctx, base, delta.Options{Memory: cmp.Or(j.memory, indexMemory), Effort: j.effort})
	if err != nil {
		return fmt.Errorf("reading %s: %w", nameOf(names[0]), err)
	}
	defer index.Close()
	return j.diffMapped(ctx, out, target, index.Diff)
}

// diffMapped writes a delta of the target, which is mapped.
func (j *job) diffMapped(ctx context.Context, out *output, target []byte, diff func(context.Context, io.Writer, []byte, func(int)) (delta.Stats, error)) error {
	f := &forgetter{target: target, w: out}
	return j.diff(out, func() (delta.Stats, error) { return diff(ctx, f, target, f.progress) })
}

// diff writes a delta by calling write.
func (j *job) diff(out *output, write func() (delta.Stats, error)) error {
	start := time.Now()
	stats, err := write()
	if err != nil {
		return fmt.Errorf("making the delta: %w", err)
	}
	j.statistics("delta", describe(stats), stats.Target(), out.n, start)
	return out.commit()
}

// forgetter keeps little of a mapped target in memory: it forgets what was
// searched, and does so again after much of it was written. Progress comes from the
// goroutine that writes the delta.
type forgetter struct {
	target []byte
	w      io.Writer
	done   int // bytes of target that were searched
	n      int // bytes searched and written since the last time
}

func (f *forgetter) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	f.forget(n)
	return n, err
}

func (f *forgetter) progress(n int) {
	f.done += n
	f.forget(n)
}

func (f *forgetter) forget(n int) {
	if f.n += n; f.n >= 2<<20 {
		f.n = 0
		mmap.Forget(f.target, f.done)
	}
}

// patch is: patch BASIS [DELTA [NEWFILE]]. It reads the delta once, or again for the
// statistics.
func patch(ctx context.Context, j *job, names []string) error {
	base, size, err := j.whole(ctx, names[0])
	if err != nil {
		return err
	}
	open := j.open
	if j.stats || j.verbose {
		open = j.whole
	}
	d, deltaSize, err := open(ctx, names[1])
	if err != nil {
		return err
	}
	out, err := j.create(ctx, names[2])
	if err != nil {
		return err
	}
	source := bufio.NewReaderSize(reader{ctx, d}, 256<<10)
	if isCompact(source) {
		return j.patchCompact(ctx, out, io.NewSectionReader(base, 0, size), source, names)
	}
	start := time.Now()
	err = delta.Patch(ctx, out, io.NewSectionReader(base, 0, size), source, -1)
	if err := j.ignoreTrailing(err, names[1]); err != nil {
		return fmt.Errorf("applying the delta %s to %s: %w", nameOf(names[1]), nameOf(names[0]), err)
	}
	if j.stats || j.verbose {
		stats, err := delta.Inspect(ctx, io.NewSectionReader(d, 0, deltaSize))
		if err != nil && !errors.Is(err, delta.ErrTrailing) {
			return err
		}
		j.statistics("patch", describe(stats), deltaSize, out.n, start)
	}
	return out.commit()
}

// ignoreTrailing returns err, unless that says that a delta has data after its end, which
// rdiff ignores: then it warns.
func (j *job) ignoreTrailing(err error, name string) error {
	if !errors.Is(err, delta.ErrTrailing) {
		return err
	}
	j.warnTrailing(name)
	return nil
}

func (j *job) warnTrailing(name string) {
	fmt.Fprintf(j.stderr, "rdiff: warning: the delta %s has data after its end, which is ignored\n", nameOf(name))
}

// statistics prints a line as rdiff does.
func (j *job) statistics(what, text string, in, out int64, start time.Time) {
	if !j.stats && !j.verbose {
		return
	}
	seconds := max(time.Since(start).Seconds(), 0.001)
	mb := func(n int64) float64 { return float64(n) / 1e6 }
	fmt.Fprintf(j.stderr, "rdiff: %s statistics: %s speed[%.1f MB (%.1f MB/s) in, %.1f MB (%.1f MB/s) out, %.2f sec]\n",
		what, text, mb(in), mb(in)/seconds, mb(out), mb(out)/seconds, seconds)
}

func describe(s delta.Stats) string {
	return fmt.Sprintf("literal[%d cmds, %d bytes] copy[%d cmds, %d bytes]", s.Literals, s.LiteralBytes, s.Copies, s.CopyBytes)
}

func nameOf(name string) string {
	if name == "-" {
		return "from standard input"
	}
	return name
}

// reader is a reader that ends when its context does.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// isDelta reports whether a file begins as a delta does.
func isDelta(data []byte) bool { return bytes.HasPrefix(data, []byte("rs\x02\x36")) }
