// Package partial makes one image while the file that it is made of is fetched,
// so that what was made before it was cut off, killed or interrupted is not lost.
//
// # Files
//
//	<image>.img.tmp          what is made of the image
//	<image>.img.tmp.journal  how far it has got, so that another call goes on from there
//
// The journal is a JSON object:
//
//	source    SHA-512 of the file that is fetched, a delta or the image itself
//	target    SHA-512 of the image
//	mirror    where it is fetched from, and
//	version   what that mirror tells of the file's content, such as an ETag
//	position  where to go on in the file, in the image, and in a literal
//	idle      how many calls have brought nothing since
//	failed    SHA-512 of the deltas that were given up for it
//
// It is written once a second or so, after the image is flushed to the disk as far
// as the journal tells. Another call reads again what is there, so what a crash or
// a bad disk made of it is noticed by the digest at the end. A delta of which one
// call fetches all is compared with its digest too; of one that comes in parts the
// beginning is not there any longer, and the image's digest tells.
package partial

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/client/internal/fetch"
	"puavo-image-repository/imagerepo/client/internal/imagedir"
	"puavo-image-repository/meta"
)

var (
	// ErrVerify is wrapped by the errors for what is not as the meta says.
	ErrVerify = errors.New("verification failed")
	// ErrCut is wrapped by the error for a network that failed midway. What has come
	// is kept for another call.
	ErrCut = errors.New("cut off; run again to go on")
)

// Job tells how an image is made.
type Job struct {
	Dir   *imagedir.Dir // whose lock is held
	Image meta.Name
	Sums  cksum.Sums // of the image: size and SHA-512
	Base  string     // file in Dir that the delta is applied to; "": the image itself is fetched

	Mirror *fetch.Mirror
	Source string            // path in the mirror of the delta, or of the image
	Fetch  cksum.Sums        // of that file: size and SHA-512, and BLAKE3 if it is known
	Failed []cksum.Digest512 // other files that were given up before, for GivenUp

	Log      *slog.Logger
	Progress func(done, total int64) // of the image, in bytes; may be nil
}

// journal tells how far an image that is being made has got.
type journal struct {
	Source  cksum.Digest512 `json:"source"`
	Target  cksum.Digest512 `json:"target"`
	Mirror  string          `json:"mirror"`
	Version string          `json:"version"`

	Position delta.Position `json:"position"`
	Idle     int            `json:"idle,omitempty"`

	Failed []cksum.Digest512 `json:"failed,omitempty"`
}

// readJournal reads the journal of an image, if there is one.
func readJournal(dir *imagedir.Dir, image meta.Name) (j journal, ok bool) {
	data, err := dir.ReadFile(imagedir.Journal(image))
	return j, err == nil && json.Unmarshal(data, &j) == nil
}

// partial is the state of one Make.
type partial struct {
	Job
	base     *os.File // nil for the full image
	baseSize int64
	body     *fetch.Body
	out      *atomicfile.File
	fetched  *checked
	made     *checked // nil for the full image, which is as it was fetched
	resumed  bool     // it began with what an earlier call has made

	begun   journal // where this call has begun
	journal journal // how far it has got
	marked  bool    // in this call
	saver   saver
}

// Make makes the image under its temporary name: complete, verified and flushed
// to the disk. It goes on from where an earlier call has got if that fetched the
// same file. What is there of another way is dropped only when something comes.
//
// What is wrong is removed, and the error wraps ErrVerify, delta.ErrFormat or
// fetch.ErrChanged; after other errors, and when ctx has ended, what was made is
// kept. Of a network that gives out, the error wraps ErrCut, unless the third call
// in a row has brought nothing: then it is the file that does not come, and another
// way may do.
func Make(ctx context.Context, j Job) error {
	err := j.make(ctx)
	if again, ok := errors.AsType[anew](err); ok {
		j.Log.Warn("beginning anew", "image", j.Image, "reason", again.error)
		return j.make(ctx)
	}
	return err
}

// anew is the error for what may be otherwise if it is done once more from the
// beginning: what an earlier call has made is not right, or the file was replaced
// meanwhile, perhaps by itself.
type anew struct{ error }

func (a anew) Unwrap() error { return a.error }

func (j Job) make(ctx context.Context) error {
	p := &partial{Job: j}
	defer p.close()
	if err := p.open(ctx); err != nil {
		if p.resumed && errors.Is(err, fetch.ErrGivenUp) {
			return p.keep(err)
		}
		return err
	}
	p.saver = newSaver(p.save)
	err := cmp.Or(p.fill(ctx), ctx.Err()) // it may have ended with the last byte
	saveErr := p.saver.wait()
	if err == nil {
		return cmp.Or(saveErr, p.out.Sync())
	}
	return p.keep(err)
}

// mostIdle is how many calls in a row may bring nothing before a way is given up.
const mostIdle = 3

// keep keeps what another call can go on with, and tells so. What is wrong is
// discarded.
func (p *partial) keep(err error) error {
	if isWrong(err) {
		p.discard()
		if p.resumed || errors.Is(err, fetch.ErrChanged) {
			return anew{err}
		}
		return err
	}
	if (p.journal.Position == delta.Position{}) {
		p.discard()
		return err
	}
	givenUp := errors.Is(err, fetch.ErrGivenUp)
	if givenUp && !p.marked {
		p.journal.Idle++
	}
	if p.marked || givenUp {
		// On a disk that is full, the one before this journal tells enough.
		if journalErr := p.save(p.journal); journalErr != nil && !p.hasJournal() {
			p.discard()
			return errors.Join(err, journalErr)
		}
	}
	if givenUp && p.journal.Idle < mostIdle {
		return fmt.Errorf("%w: %w", ErrCut, err)
	}
	return err
}

func (p *partial) hasJournal() bool {
	_, err := p.Dir.Lstat(imagedir.Journal(p.Image))
	return err == nil
}

// isWrong reports whether an error says that what was made is of no use.
func isWrong(err error) bool {
	return errors.Is(err, ErrVerify) || errors.Is(err, delta.ErrFormat) || errors.Is(err, fetch.ErrChanged)
}

// open opens all that is needed, and finds out where to begin.
func (p *partial) open(ctx context.Context) error {
	if err := p.openBase(); err != nil {
		return err
	}
	p.restart()
	p.resume()
	var err error
	p.body, err = p.Mirror.Open(ctx, p.Source, fetch.Place{Offset: p.journal.Position.Delta, Version: p.journal.Version})
	if errors.Is(err, fetch.ErrChanged) && p.resumed {
		p.restart()
		p.body, err = p.Mirror.Open(ctx, p.Source, fetch.Place{})
	}
	if err != nil {
		return err
	}
	if size := p.body.Size(); size >= 0 && size != p.Fetch.Size {
		return fmt.Errorf("%w: %s has %d bytes, want %d", ErrVerify, p.Source, size, p.Fetch.Size)
	}
	p.journal.Mirror, p.journal.Version = p.Mirror.String(), p.body.Version()
	return p.openOut(ctx)
}

func (p *partial) openBase() (err error) {
	if p.Base == "" {
		return nil
	}
	if p.base, err = p.Dir.Open(p.Base); err != nil {
		return err
	}
	info, err := p.base.Stat()
	if err != nil {
		return err
	}
	p.baseSize = info.Size()
	return nil
}

// restart begins, or forgets what an earlier call has got.
func (p *partial) restart() {
	p.journal = journal{Source: p.Fetch.SHA512, Target: p.Sums.SHA512, Failed: p.Failed}
	p.resumed = false
	if p.Base == "" {
		p.fetched = newChecked(p.Source, p.Fetch, p.Progress)
		return
	}
	p.fetched = newCheckedFast(p.Source, p.Fetch)
	p.made = newChecked(p.Image.String(), p.Sums, p.Progress)
}

// resume takes up what an earlier call has got, if it is there and of use.
func (p *partial) resume() {
	old, ok := readJournal(p.Dir, p.Image)
	if !ok {
		return
	}
	info, err := p.Dir.Lstat(imagedir.Tmp(p.Image))
	at := old.Position
	if err != nil || !info.Mode().IsRegular() || at.Target < 0 || at.Target > info.Size() || at.Delta <= 0 || at.Literal < 0 ||
		old.Source != p.journal.Source || old.Target != p.journal.Target {
		return
	}
	if p.made != nil {
		p.fetched.goOn(at.Delta)
	}
	if old.Mirror != p.Mirror.String() { // what it calls the same file tells nothing
		old.Version = ""
	}
	old.Failed = p.Failed
	p.journal, p.resumed = old, true
	p.Log.Info("going on with what an earlier run has made", "image", p.Image, "bytes", at.Target)
}

// openOut opens the file that is made, after what is known to be right of it.
func (p *partial) openOut(ctx context.Context) (err error) {
	tmp := imagedir.Tmp(p.Image)
	if !p.resumed {
		p.discard()
		p.out, err = p.Dir.Begin(tmp, p.Image.String())
		return err
	}
	if p.out, err = p.Dir.Resume(tmp, p.Image.String(), p.journal.Position.Target); err != nil {
		return err
	}
	digest := p.made
	if digest == nil {
		digest = p.fetched
	}
	// Reading to the end is also where to go on writing.
	_, err = io.Copy(digest, &contextReader{ctx, p.out})
	return err
}

// fill makes the rest of the image.
func (p *partial) fill(ctx context.Context) error {
	p.begun = p.journal
	in := &checkedReader{ctx: ctx, r: p.body, c: p.fetched}
	if p.base == nil {
		return p.copy(in)
	}
	base, out := io.NewSectionReader(p.base, 0, p.baseSize), io.MultiWriter(p.out, p.made)
	err := delta.Resume(ctx, out, base, in, p.Sums.Size, p.journal.Position, p.mark)
	if err != nil {
		return err
	}
	return p.made.check()
}

// copy fetches the full image.
func (p *partial) copy(in io.Reader) error {
	const piece = 1 << 20
	at := p.journal.Position.Target
	for {
		n, err := io.CopyN(p.out, in, piece)
		at += n
		if err == io.EOF {
			return nil
		}
		if at == p.Fetch.Size && err == nil {
			continue // what is complete is not gone on with
		}
		if n == 0 {
			return err
		}
		if markErr := p.mark(delta.Position{Delta: at, Target: at})(); err == nil {
			err = markErr
		}
		if err != nil {
			return err
		}
	}
}

// mark takes down where another call can go on, and returns what is to be done
// when the image is written as far.
func (p *partial) mark(at delta.Position) func() error {
	j := p.begun // the one of now belongs to the goroutine that writes
	j.Position, j.Idle = at, 0
	return func() error {
		p.journal, p.marked = j, true
		return p.saver.offer(j)
	}
}

// save writes a journal, after what it tells of.
func (p *partial) save(j journal) error {
	if p.out != nil {
		if err := p.out.Sync(); err != nil {
			return err
		}
	}
	data, err := json.Marshal(j)
	if err != nil {
		return err
	}
	name := imagedir.Journal(p.Image)
	_, err = p.Dir.Replace(name+".new", name, data)
	return err
}

// discard removes what was made.
func (p *partial) discard() {
	Discard(p.Dir, p.Image)
}

// Discard removes what was made of an image.
func Discard(dir *imagedir.Dir, image meta.Name) {
	journal := imagedir.Journal(image)
	dir.Remove(journal) // first, since it tells of the other
	dir.Remove(journal + ".new")
	dir.Remove(imagedir.Tmp(image))
}

func (p *partial) close() {
	if p.base != nil {
		p.base.Close()
	}
	if p.out != nil {
		p.out.Keep()
	}
	if p.body != nil {
		p.body.Close()
	}
}

// Left returns how many bytes are still to be fetched of a file of that many
// bytes, if Make were called now. It does not look whether what is there is right.
func Left(dir *imagedir.Dir, image meta.Name, source cksum.Sums) int64 {
	old, ok := readJournal(dir, image)
	if !ok || old.Source != source.SHA512 {
		return source.Size
	}
	return min(max(source.Size-old.Position.Delta, 0), source.Size)
}

// GivenUp returns the files that an earlier call was told had failed, as long as
// the image that it began is not complete.
func GivenUp(dir *imagedir.Dir, image meta.Name) []cksum.Digest512 {
	old, _ := readJournal(dir, image)
	return old.Failed
}
