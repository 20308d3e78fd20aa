package assemble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sort"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/delta/compact"
	"puavo-image-repository/imagerepo/internal/budget"
)

// maxHead is how many bytes of a compact delta's head the journal keeps at most. A longer
// one is fetched again.
const maxHead = 256 << 10

// openCompact is open for a compact delta. Its head says where in the file to go on.
func (a *attempt) openCompact(ctx context.Context) error {
	begun := Look(a.Dir, a.Image)
	own := begun.from(a.Sums.SHA512, a.SourceSums)
	file := a.Mirror.String() + "/" + a.Source
	a.sourceVerifier = newVerifier(file, a.SourceSums, nil)
	a.imageVerifier = newVerifier(a.Image.String(), a.Sums, a.Progress)
	if err := a.readHead(ctx, own.Head); err != nil {
		return asVerify(file, err)
	}
	if err := a.checkHead(); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrVerify, file, err)
	}
	a.beginCompact(begun, own)
	if err := a.openSections(ctx); err != nil {
		return err
	}
	return a.openPartial(ctx)
}

// readHead reads the head, from the journal if that has it.
func (a *attempt) readHead(ctx context.Context, known []byte) (err error) {
	if a.compact, err = compact.Open(bytes.NewReader(known)); err == nil && !a.fresh {
		a.head = known
		_, err = a.sourceVerifier.Write(known)
		return err
	}
	if err := a.openSource(ctx); err != nil {
		return err
	}
	var head bytes.Buffer
	a.compact, err = compact.Open(io.TeeReader(a.reader(ctx), &head))
	a.head = head.Bytes()
	return err
}

// checkHead returns an error for a compact delta that is not for the base or the image, as
// far as they are known, before the rest of it is fetched.
func (a *attempt) checkHead() error {
	info := a.compact.Info()
	if info.Length != a.SourceSums.Size {
		return fmt.Errorf("it says that it has %d bytes, want %d", info.Length, a.SourceSums.Size)
	}
	if err := isObject(info.Target, a.Sums); err != nil {
		return fmt.Errorf("it makes another image: %w", err)
	}
	want := a.BaseSums
	want.Size = a.baseSize
	if err := isObject(info.Base, want); err != nil {
		return fmt.Errorf("it needs another base: %w", err)
	}
	return nil
}

// isObject returns an error for an object that is not what sums are of.
func isObject(o compact.Object, sums cksum.Sums) error {
	unknown := sums.BLAKE3 == cksum.Digest256{}
	switch {
	case o.Size != sums.Size:
		return fmt.Errorf("of %d bytes, this one has %d", o.Size, sums.Size)
	case !unknown && o.BLAKE3 != sums.BLAKE3:
		return fmt.Errorf("its BLAKE3 is %s, that of this one %s", o.BLAKE3, sums.BLAKE3)
	}
	return nil
}

// beginCompact begins with the group that follows what was made, whoever made it: the bytes
// are the same.
func (a *attempt) beginCompact(begun Begun, own point) {
	groups, made := a.compact.Info().Groups, begun.made(a.Sums.SHA512)
	a.group = sort.Search(groups, func(group int) bool { return a.position(group).Target > made }) - 1
	a.group = max(a.group, 0)
	from := point{Source: a.SourceSums.SHA512, Idle: own.Idle}
	if len(a.head) <= maxHead {
		from.Head = a.head
	}
	a.journal = journal{Target: a.Sums.SHA512, point: from}
	if a.resumed = a.group > 0; a.resumed {
		from.Position = a.position(a.group)
		a.journal = begun.continued(from)
		a.Log.Info("going on with what an earlier run has made", "image", a.Image, "bytes", from.Position.Target)
	}
	a.journal.Wrong = a.Wrong
}

// position returns where a group begins.
func (a *attempt) position(group int) (p delta.Position) {
	p.Delta, p.Target = a.compact.Start(group)
	return p
}

// openSections opens the source where the group begins, unless it is open there.
func (a *attempt) openSections(ctx context.Context) error {
	at := a.position(a.group).Delta
	if at == a.sourceVerifier.size && a.source != nil {
		return nil
	}
	if at > a.sourceVerifier.size {
		a.sourceVerifier.skip(at)
	}
	if a.source != nil {
		a.source.Close()
		a.source = nil
	}
	return a.openSourceAt(ctx, at)
}

// decode makes the rest of the image from a compact delta.
func (a *attempt) decode(ctx context.Context) error {
	in := a.reader(ctx)
	var base io.ReaderAt = bytes.NewReader(nil)
	if a.base != nil {
		base = a.base
	}
	o := compact.DecodeOptions{
		Cores: workers(a.compact.Info(), budget.Free()), From: a.group, Trusted: a.BaseSums.BLAKE3 != cksum.Digest256{},
		Compared: true, // by the verifier of the image
	}
	out := &groupWriter{attempt: a, w: io.MultiWriter(localWriter{a.partial}, a.imageVerifier), at: a.position(a.group).Target, group: a.group}
	if err := a.compact.Decode(ctx, in, base, out, o); err != nil {
		return asVerify(a.sourceVerifier.name, err)
	}
	if _, err := io.Copy(io.Discard, in); err != nil { // which compares the digest at its end
		return err
	}
	return a.checkImage()
}

// asVerify returns the error for a compact delta that is malformed, or for another base, as
// an ErrVerify that names the file. Others name it themselves.
func asVerify(file string, err error) error {
	for _, wrong := range []error{compact.ErrFormat, compact.ErrMagic, compact.ErrBase} {
		if _, broken := errors.AsType[readError](err); !broken && errors.Is(err, wrong) && !errors.Is(err, ErrVerify) {
			return fmt.Errorf("%w: %s: %w", ErrVerify, file, err)
		}
	}
	return err
}

// groupWriter writes groups, one after the other, and a checkpoint behind each.
type groupWriter struct {
	*attempt
	w     io.Writer
	at    int64 // in the image
	group int   // that is written
}

func (g *groupWriter) Write(p []byte) (int, error) {
	n, err := g.w.Write(p)
	g.at += int64(n)
	if err != nil {
		return n, err
	}
	next := g.position(g.group + 1)
	if g.at < next.Target || g.at == g.Sums.Size {
		return n, nil
	}
	g.group++
	return n, g.checkpoint(next)()
}

const (
	// sectionMemory is what applying a compact delta takes in bytes, without its workers.
	sectionMemory = 32 << 20
	// allWorkers is how many of them the head speaks of.
	allWorkers = 4
)

// workers returns how many workers apply a compact delta: as many as the process may use
// cores, but no more than take half of the memory that is free.
func workers(info compact.Info, free int64) int {
	each := max(1, (info.Memory-sectionMemory)/allWorkers)
	fit := (free/2 - sectionMemory) / each
	return int(max(1, min(fit, int64(runtime.GOMAXPROCS(0)))))
}
