package client

import (
	"context"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/client/internal/fetch"
	"puavo-image-repository/imagerepo/internal/atomicfile"
	"puavo-image-repository/imagerepo/internal/state"
)

// The names of what belongs to an image that is being made.
func tmpOf(image string) string     { return image + ".tmp" }
func journalOf(image string) string { return image + ".tmp.journal" }

// journal tells how far an image that is being made has got, so that another run
// can go on from there. It is written after what it tells of is on the disk.
type journal struct {
	Source cksum.Digest512 `json:"source"` // of what is fetched
	Target cksum.Digest512 `json:"target"` // of the image
	Base   state.Stamp     `json:"base,omitzero"`

	// Version tells which file is fetched, and Position where in it and in the
	// image to go on.
	Version  string         `json:"version"`
	Position delta.Position `json:"position"`
	// Fetched is the state of the digest of a delta, after so many bytes of it. That
	// of the image is not kept: what is there of it is read again.
	Fetched []byte `json:"fetched,omitempty"`
	Size    int64  `json:"size,omitempty"`
}

// partial is an image that is being made by a route.
type partial struct {
	*update
	route Route
	name  string // of the image

	base     *os.File // nil for the full image
	baseSize int64
	body     *fetch.Body
	out      *os.File
	fetched  *checked
	made     *checked // nil for the full image, which is as it was fetched
	known    int64    // bytes that come again and are in the digest of what was fetched
	journal  journal
	resumed  bool      // it began with what an earlier run has made
	marked   bool      // it has got on in this run
	written  time.Time // when the journal was
}

// make makes the image of a route, from where an earlier run has got if it went
// the same way. What is there of another way is dropped only when something
// comes.
func (u *update) make(ctx context.Context, route Route) (err error) {
	p := &partial{update: u, route: route, name: route.Target.Name.String()}
	defer p.close()
	if err := p.open(ctx); err != nil {
		return err
	}
	err = p.fill(ctx)
	if err == nil {
		err = ctx.Err() // it may have ended with the last byte
	}
	switch {
	case err == nil:
		if err = p.commit(); err != nil {
			p.discard()
		}
		return err
	case p.resumed && isWrong(err):
		p.Log.Warn("what an earlier run has made is not right: beginning anew", "image", p.name, "reason", err)
		p.discard()
		return u.make(ctx, route)
	default:
		return p.keep(err)
	}
}

// keep keeps what another run can go on with, and tells so. What is wrong, or has
// no room, is discarded.
func (p *partial) keep(err error) error {
	if (p.journal.Position == delta.Position{}) || isWrong(err) || errors.Is(err, syscall.ENOSPC) {
		p.discard()
		return err
	}
	if !p.marked {
		return err
	}
	if journalErr := p.writeJournal(); journalErr != nil {
		return errors.Join(err, journalErr)
	}
	if errors.Is(err, fetch.ErrGivenUp) {
		return fmt.Errorf("%w: %w", ErrCut, err)
	}
	return err
}

// isWrong reports whether an error says that what was made is of no use.
func isWrong(err error) bool {
	return errors.Is(err, ErrVerify) || errors.Is(err, delta.ErrFormat) || errors.Is(err, fetch.ErrChanged)
}

// open opens all that is needed, and finds out where to begin.
func (p *partial) open(ctx context.Context) error {
	name, file := p.route.file()
	p.fetched = newChecked(name, file.Sums)
	p.journal = journal{Source: file.Sums.SHA512, Target: p.route.Target.Sums.SHA512}
	if err := p.openBase(); err != nil {
		return err
	}
	if err := p.resume(); err != nil {
		return err
	}
	var err error
	p.body, err = p.mirror.Open(ctx, name, fetch.Place{Offset: p.journal.Position.Delta, Version: p.journal.Version})
	if errors.Is(err, fetch.ErrChanged) {
		p.restart()
		p.body, err = p.mirror.Open(ctx, name, fetch.Place{})
	}
	if err != nil {
		return err
	}
	if size := p.body.Size(); size >= 0 && size != file.Sums.Size {
		return fmt.Errorf("%w: %s has %d bytes, want %d", ErrVerify, name, size, file.Sums.Size)
	}
	p.journal.Version = p.body.Version()
	return p.openOut(ctx)
}

func (p *partial) openBase() (err error) {
	if p.route.Diff == nil {
		p.fetched.progress = p.Progress
		return nil
	}
	if p.base, err = p.root.Open(p.route.Diff.Base.String()); err != nil {
		return err
	}
	info, err := p.base.Stat()
	if err != nil {
		return err
	}
	p.baseSize, p.journal.Base = info.Size(), state.StampOf(info)
	p.made = newChecked(p.name, p.route.Target.Sums)
	p.made.progress = p.Progress
	return nil
}

// resume takes up what an earlier run has got, if it is there and of use.
func (p *partial) resume() error {
	var old journal
	data, err := p.root.ReadFile(journalOf(p.name))
	if err != nil || json.Unmarshal(data, &old) != nil {
		return nil
	}
	info, err := p.root.Lstat(tmpOf(p.name))
	at := old.Position
	if err != nil || !info.Mode().IsRegular() || at.Target < 0 || at.Target > info.Size() || at.Delta <= 0 || at.Literal < 0 ||
		old.Source != p.journal.Source || old.Target != p.journal.Target || old.Base != p.journal.Base {
		return nil
	}
	if p.made != nil {
		if p.fetched.digest.(encoding.BinaryUnmarshaler).UnmarshalBinary(old.Fetched) != nil || old.Size < old.Position.Delta {
			p.restart()
			return nil
		}
		p.fetched.size, p.known = old.Size, old.Size-old.Position.Delta
	}
	p.journal, p.resumed = old, true
	p.Log.Info("going on with what an earlier run has made", "image", p.name, "bytes", old.Position.Target)
	return nil
}

// restart forgets what an earlier run has got.
func (p *partial) restart() {
	p.fetched = newChecked(p.fetched.name, p.fetched.want)
	if p.made != nil {
		p.made = newChecked(p.made.name, p.made.want)
		p.made.progress = p.Progress
	} else {
		p.fetched.progress = p.Progress
	}
	p.journal.Position, p.journal.Version, p.known, p.resumed = delta.Position{}, "", 0, false
}

// openOut opens the file that is made, after what is known to be right of it.
func (p *partial) openOut(ctx context.Context) (err error) {
	tmp := tmpOf(p.name)
	if !p.resumed {
		p.discard()
		p.out, err = p.root.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		return err
	}
	if p.out, err = p.root.OpenFile(tmp, os.O_RDWR, 0); err != nil {
		return err
	}
	if err := p.out.Truncate(p.journal.Position.Target); err != nil {
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

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// fill makes the rest of the image.
func (p *partial) fill(ctx context.Context) error {
	in := &checkedReader{ctx: ctx, r: p.body, c: p.fetched, known: p.known}
	if p.base == nil {
		return p.copy(in)
	}
	out := io.MultiWriter(p.out, p.made)
	err := delta.Resume(ctx, out, p.base, p.baseSize, in, p.route.Target.Sums.Size, p.journal.Position, p.mark)
	if err != nil {
		return err
	}
	return p.made.check()
}

// copy fetches the full image.
func (p *partial) copy(in io.Reader) error {
	const piece = 4 << 20
	at := p.journal.Position.Target
	for {
		n, err := io.CopyN(p.out, in, piece)
		at += n
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if at == p.fetched.want.Size {
			continue // what is complete is not gone on with
		}
		if err := p.mark(delta.Position{Delta: at, Target: at}); err != nil {
			return err
		}
	}
}

// mark takes down where another run can go on, and writes the journal once in a
// while.
func (p *partial) mark(at delta.Position) (err error) {
	p.journal.Position = at
	if p.made != nil {
		p.journal.Size = p.fetched.size
		if p.journal.Fetched, err = p.fetched.digest.(encoding.BinaryMarshaler).MarshalBinary(); err != nil {
			return err
		}
	}
	if p.marked = true; time.Since(p.written) < time.Second {
		return nil
	}
	return p.writeJournal()
}

// writeJournal writes the journal, after what it tells of.
func (p *partial) writeJournal() error {
	if err := p.out.Sync(); err != nil {
		return err
	}
	data, err := json.Marshal(p.journal)
	if err != nil {
		return err
	}
	_, err = atomicfile.Dir{Root: p.root}.Replace(journalOf(p.name)+".new", journalOf(p.name), data)
	p.written = time.Now()
	return err
}

// commit gives the image its name.
func (p *partial) commit() error {
	err := errors.Join(p.out.Sync(), p.out.Close())
	p.out = nil
	if err != nil {
		return err
	}
	if err := p.root.Rename(tmpOf(p.name), p.name); err != nil {
		return err
	}
	for _, left := range []string{journalOf(p.name), journalOf(p.name) + ".new"} {
		if err := p.root.Remove(left); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return atomicfile.Dir{Root: p.root}.SyncDir(".")
}

// discard removes what was made.
func (p *partial) discard() {
	p.root.Remove(journalOf(p.name)) // first, since it tells of the other
	p.root.Remove(journalOf(p.name) + ".new")
	p.root.Remove(tmpOf(p.name))
}

func (p *partial) close() {
	for _, f := range []*os.File{p.base, p.out} {
		if f != nil {
			f.Close()
		}
	}
	if p.body != nil {
		p.body.Close()
	}
}
