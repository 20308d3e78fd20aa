package assemble

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"puavo-image-repository/delta"
	"puavo-image-repository/delta/compact"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/fetch"
)

// attempt is the state of one attempt to make the image.
type attempt struct {
	Job
	fresh    bool     // past all caches
	base     *os.File // nil for the full image
	baseSize int64
	source   io.ReadCloser
	partial  *atomicfile.File
	resumed  bool // it continues what an earlier call has made

	sourceVerifier *verifier
	imageVerifier  *verifier // nil for the full image, which is its source

	compact *compact.Delta // nil for what is none
	head    []byte         // of it
	group   int            // where this attempt has begun

	start        journal // where this attempt has begun
	journal      journal // how far it has got
	advanced     bool    // beyond start
	checkpointer checkpointer
}

func (j Job) attempt(ctx context.Context, fresh bool) error {
	a := &attempt{Job: j, fresh: fresh}
	defer a.close()
	if err := a.open(ctx); err != nil {
		if a.resumed && errors.Is(err, fetch.ErrGivenUp) {
			return a.suspend(err)
		}
		if a.Compact && isWrong(err) && !a.fresh && a.Mirror.Remote() {
			return staleError{err}
		}
		return err
	}
	a.checkpointer = newCheckpointer(a.save)
	err := cmp.Or(a.run(ctx), ctx.Err()) // it may have ended with the last byte
	saveErr := a.checkpointer.wait()
	if err == nil {
		return cmp.Or(saveErr, local(a.partial.Sync()))
	}
	return a.suspend(err)
}

// open opens all that is needed, and finds out where to begin.
func (a *attempt) open(ctx context.Context) error {
	if err := a.openBase(); err != nil {
		return err
	}
	if a.Compact {
		return a.openCompact(ctx)
	}
	a.begin()
	if err := a.openSource(ctx); err != nil {
		return err
	}
	return a.openPartial(ctx)
}

func (a *attempt) openBase() (err error) {
	if a.Base == "" {
		return nil
	}
	dir := a.BaseDir
	if dir.IsZero() {
		dir = a.Dir
	}
	if a.base, err = dir.Open(a.Base); err != nil {
		return err
	}
	info, err := a.base.Stat()
	if err != nil {
		return err
	}
	a.baseSize = info.Size()
	return nil
}

// begin begins where an earlier call has stopped, or else with nothing.
func (a *attempt) begin() {
	begun := Look(a.Dir, a.Image)
	from := begun.from(a.Sums.SHA512, a.SourceSums)
	a.journal = journal{Target: a.Sums.SHA512, point: from}
	if a.resumed = from.Position != (delta.Position{}); a.resumed {
		a.journal = begun.continued(from)
		a.Log.Info("resuming an earlier run", "image", a.Image, "bytes", from.Position.Target)
	}
	a.journal.Wrong = a.Wrong
	file := a.Mirror.String() + "/" + a.Source
	if a.Base == "" {
		a.sourceVerifier = newVerifier(file, a.SourceSums, a.Progress)
		return
	}
	a.imageVerifier = newVerifier(a.Image.String(), a.Sums, a.Progress)
	a.sourceVerifier = newVerifier(file, a.SourceSums, nil)
	if a.resumed {
		a.sourceVerifier.skip(from.Position.Delta)
	}
}

// openSource opens the file in the mirror where the journal says.
func (a *attempt) openSource(ctx context.Context) error {
	return a.openSourceAt(ctx, a.journal.Position.Delta)
}

func (a *attempt) openSourceAt(ctx context.Context, offset int64) (err error) {
	a.source, err = a.Mirror.Open(ctx, a.Source, fetch.Request{Offset: offset, Size: a.SourceSums.Size, Fresh: a.fresh})
	return err
}

// reader returns what reads the source.
func (a *attempt) reader(ctx context.Context) io.Reader {
	return &verifyingReader{ctx: ctx, r: a.source, v: a.sourceVerifier, left: a.Left, came: a.Came}
}

// openPartial opens the partial image at the end of what the journal vouches for.
func (a *attempt) openPartial(ctx context.Context) (err error) {
	file := PartialName(a.Image)
	if !a.resumed {
		discard(a.Dir, a.Image)
		a.partial, err = a.Dir.Begin(file, a.Image.String())
		return local(err)
	}
	if a.partial, err = a.Dir.Resume(file, a.Image.String(), a.journal.Position.Target); err != nil {
		return local(err)
	}
	// Reading to the end also leaves the file where writing continues.
	_, err = io.Copy(cmp.Or(a.imageVerifier, a.sourceVerifier), &contextReader{ctx, a.partial})
	return err
}

// run makes the rest of the image.
func (a *attempt) run(ctx context.Context) error {
	a.start = a.journal
	if a.Compact {
		return a.decode(ctx)
	}
	in := a.reader(ctx)
	if a.base == nil {
		return a.copy(in)
	}
	base, out := io.NewSectionReader(a.base, 0, a.baseSize), io.MultiWriter(localWriter{a.partial}, a.imageVerifier)
	if err := delta.Resume(ctx, out, base, in, a.Sums.Size, a.journal.Position, a.checkpoint); err != nil {
		return err
	}
	return a.checkImage()
}

// checkImage compares the image that a delta has made.
func (a *attempt) checkImage() error {
	err := a.imageVerifier.check()
	if err != nil && a.sourceVerifier.passed {
		return fmt.Errorf("%w of %s: %w", ErrUnfit, a.Base, err)
	}
	return err
}

// localWriter marks the errors of a file as those of its directory.
type localWriter struct{ f *atomicfile.File }

func (w localWriter) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	return n, local(err)
}

// copy downloads the full image.
func (a *attempt) copy(in io.Reader) error {
	const piece = 1 << 20
	at := a.journal.Position.Target
	for {
		n, err := io.CopyN(localWriter{a.partial}, in, piece)
		at += n
		if err == io.EOF {
			return nil
		}
		if at == a.SourceSums.Size && err == nil {
			continue // nothing is left to resume
		}
		if n == 0 {
			return err
		}
		if saveErr := a.checkpoint(delta.Position{Delta: at, Target: at})(); err == nil {
			err = saveErr
		}
		if err != nil {
			return err
		}
	}
}

// checkpoint prepares a checkpoint, and returns what the goroutine that writes the
// image calls once it is written up to there. That goroutine alone uses a.journal
// from now on.
func (a *attempt) checkpoint(at delta.Position) func() error {
	j := a.start
	j.Position, j.Idle = at, 0
	return func() error {
		a.journal, a.advanced = j, true
		return a.checkpointer.offer(j)
	}
}

// save flushes the partial image, and then writes a journal.
func (a *attempt) save(j journal) error {
	if a.partial != nil {
		if err := a.partial.Sync(); err != nil {
			return local(err)
		}
	}
	return local(j.write(a.Dir, a.Image))
}

// maxIdle is how many calls in a row may bring nothing before a source is given up.
const maxIdle = 3

// suspend keeps what the next call can continue from, and says so in the error. What
// is wrong is discarded.
func (a *attempt) suspend(err error) error {
	if isWrong(err) {
		discard(a.Dir, a.Image)
		if a.resumed || !a.fresh && a.Mirror.Remote() && !errors.Is(err, ErrUnfit) {
			return staleError{err}
		}
		return err
	}
	if (a.journal.Position == delta.Position{}) {
		discard(a.Dir, a.Image)
		return err
	}
	givenUp := errors.Is(err, fetch.ErrGivenUp)
	if givenUp && !a.advanced {
		a.journal.Idle++
	}
	if a.advanced || givenUp {
		// If the disk is full, the journal before this one will do.
		if saveErr := a.save(a.journal); saveErr != nil && !a.hasJournal() {
			discard(a.Dir, a.Image)
			return errors.Join(err, saveErr)
		}
	}
	if givenUp && a.journal.Idle < maxIdle {
		return fmt.Errorf("%w: %w", ErrIncomplete, err)
	}
	return err
}

// isWrong reports whether an error says that the partial image is of no use.
func isWrong(err error) bool {
	return errors.Is(err, ErrVerify) || errors.Is(err, delta.ErrFormat)
}

func (a *attempt) hasJournal() bool {
	_, err := a.Dir.Lstat(JournalName(a.Image))
	return err == nil
}

func (a *attempt) close() {
	if a.base != nil {
		a.base.Close()
	}
	if a.partial != nil {
		a.partial.Keep()
	}
	if a.source != nil {
		a.source.Close()
	}
}
