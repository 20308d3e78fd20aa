package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"puavo-image-repository/imagerepo/client/internal/digestcache"
	"puavo-image-repository/imagerepo/client/internal/hold"
	"puavo-image-repository/imagerepo/client/internal/imagedir"
	"puavo-image-repository/imagerepo/client/internal/stats"
	"puavo-image-repository/meta"
)

// Held describes a hold of updates.
type Held struct {
	Since  time.Time   `json:"since,omitzero"`   // when that began, in UTC; zero if the record is damaged
	Image  meta.Name   `json:"image,omitzero"`   // that is kept in use; zero if there is none
	From   meta.Name   `json:"from,omitzero"`    // that was left by a rollback: a newer one ends the hold; zero for a hold until Unhold
	Missed []meta.Name `json:"missed"`           // images that the mirror has and that are newer than Image, oldest first
	Damage string      `json:"damage,omitempty"` // what is wrong with the record, and what to do; "" if it can be read
}

// Status is what an images directory says without a mirror.
type Status struct {
	InUse meta.Name // the default image, or else the newest; zero if there is none
	Held  *Held     // nil if updates are not held
}

// Look returns the status of the images directory. It needs Options.Dir, takes no lock and
// changes nothing.
func Look(o Options) (Status, error) {
	o, err := o.checkedOffline()
	if err != nil {
		return Status{}, err
	}
	dir, err := imagedir.Open(o.Dir)
	if err != nil {
		return Status{}, err
	}
	defer dir.Close()
	var s Status
	if s.InUse, _, err = inUse(o, dir); err != nil {
		return Status{}, err
	}
	if state := hold.Read(dir.Files); state.Held {
		s.Held, err = newHeld(o, dir, state, nil)
	}
	return s, err
}

// inUse returns the image in use: the default image, or else the newest local one.
func inUse(o Options, dir *imagedir.Dir) (image meta.Name, ok bool, err error) {
	if image, ok = dir.Link(o.DefaultLink).Image(); ok {
		return image, true, nil
	}
	local, err := dir.Installed()
	if err != nil || len(local) == 0 {
		return meta.Name{}, false, err
	}
	return local[len(local)-1].Name, true, nil
}

// newHeld returns what is known of a hold. series is what a mirror offers, nil if that is
// not known.
func newHeld(o Options, dir *imagedir.Dir, state hold.State, series *meta.Series) (*Held, error) {
	h := &Held{Since: state.Hold.Since, Image: state.Hold.Image, From: state.Hold.From, Missed: []meta.Name{}}
	if state.Damage != nil {
		h.Damage = state.Damage.Error()
		var err error
		if h.Image, _, err = inUse(o, dir); err != nil {
			return nil, err
		}
	}
	if series != nil {
		for _, im := range series.Images {
			if im.Name.Version > h.Image.Version {
				h.Missed = append(h.Missed, im.Name)
			}
		}
		slices.SortFunc(h.Missed, meta.Name.Compare)
	}
	return h, nil
}

// markHeld marks the image that a hold keeps, and those that are missed for it.
func markHeld(o Options, dir *imagedir.Dir, all []Listed) error {
	state := hold.Read(dir.Files)
	if !state.Held {
		return nil
	}
	held, err := newHeld(o, dir, state, nil)
	if err != nil {
		return err
	}
	if state.Damage != nil {
		o.Log.Warn("updates are held", "reason", state.Damage)
	}
	at := slices.IndexFunc(all, func(l Listed) bool { return l.Name == held.Image })
	if at < 0 {
		o.Log.Warn("the image that updates are held at is missing", "image", held.Image.String(), "since", held.Since)
		return nil
	}
	newer := func(l Listed) bool {
		return l.Offered && l.Series == all[at].Series && l.Name.Version > held.Image.Version
	}
	if slices.ContainsFunc(all, func(l Listed) bool { return newer(l) && state.Ends(l.Name) }) {
		return nil // the next update installs it
	}
	all[at].Held, all[at].HeldSince = true, held.Since
	for i := range all {
		all[i].Missed = newer(all[i])
	}
	return nil
}

// Hold has no update installed until Unhold, and keeps the image that is in use. If updates
// are held already, it goes on, since when it was: the hold of a rollback then no longer
// ends by itself, and a damaged record is written again. Without an image the error wraps
// ErrNoImage. It needs Options.Dir, and no mirror.
func Hold(ctx context.Context, o Options) (*Held, error) {
	o, dir, err := openLocked(ctx, o)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	image, ok, err := inUse(o, dir)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, noImage("%s contains no image to hold updates at", o.Dir)
	}
	h := hold.Hold{Since: now(), Image: image}
	if old := hold.Read(dir.Files); old.Held && old.Damage == nil {
		h.Since = old.Hold.Since
		if o.DefaultLink == "" || dir.Digests.Pending() == old.Hold.Image { // else the link says
			h.Image = old.Hold.Image
		}
	}
	if err := hold.Write(dir.Files, h); err != nil {
		return nil, err
	}
	return newHeld(o, dir, hold.State{Held: true, Hold: h}, nil)
}

// Unhold ends a hold, whoever began it, and returns what it was, nil if there was none. It
// needs Options.Dir, and no mirror.
func Unhold(ctx context.Context, o Options) (*Held, error) {
	o, dir, err := openLocked(ctx, o)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	state := hold.Read(dir.Files)
	if !state.Held {
		return nil, nil
	}
	held, err := newHeld(o, dir, state, nil)
	if err != nil {
		return nil, err
	}
	return held, hold.Remove(dir.Files)
}

// openLocked opens the images directory of the options and takes its lock, for what needs
// no mirror. It returns the options with defaults. The caller closes the directory.
func openLocked(ctx context.Context, o Options) (Options, *imagedir.Dir, error) {
	o, err := o.checkedOffline()
	if err != nil {
		return o, nil, err
	}
	if err := ctx.Err(); err != nil {
		return o, nil, err
	}
	dir, err := imagedir.Open(o.Dir)
	if err != nil {
		return o, nil, err
	}
	if err := lock(o, dir); err != nil {
		dir.Close()
		return o, nil, err
	}
	return o, dir, nil
}

// now returns the time as a hold records it.
func now() time.Time { return time.Now().UTC().Truncate(time.Second) }

// Rollback puts an older image that is in the images directory to use, with all that
// belongs to that, and holds updates until a newer image than the one in use before is
// offered, or until Unhold. No mirror is needed, and no Options.AllowDowngrade.
//
// The image is Options.Image, or else the backup if it is older than the one in use, or else
// the newest older one of its series. It is read and compared with the digest that is known
// of it. One that is wrong is an error if it was named, and left for another if not. One of
// which no digest is known is taken if nothing better is there, with a warning.
//
// It needs Options.Dir and Options.DefaultLink. The error wraps ErrNoImage if there is no
// such image, and ErrVerify if the one that was named is wrong. What has failed or was
// interrupted is done again by Rollback or Update.
func Rollback(ctx context.Context, o Options) (Result, error) {
	if o.DefaultLink == "" {
		return Result{}, errors.New("Options.DefaultLink: want the default link to change")
	}
	o, dir, err := openLocked(ctx, o)
	if err != nil {
		return Result{}, err
	}
	defer dir.Close()
	r := &rollback{options: o, dir: dir, before: hold.Read(dir.Files), report: report{see: o.Stage}}
	image, ok, err := inUse(o, dir)
	if err == nil && !ok {
		err = noImage("%s contains no image", o.Dir)
	}
	if err != nil {
		return Result{}, err
	}
	r.inUse = image
	return r.run(ctx)
}

// rollback is the state of one Rollback.
type rollback struct {
	options Options
	dir     *imagedir.Dir
	inUse   meta.Name  // the image that is left
	before  hold.State // the hold until now
	report  report
}

func (r *rollback) run(ctx context.Context) (Result, error) {
	target, err := r.target(ctx)
	if err != nil {
		return Result{}, err
	}
	h := r.hold(target)
	result := newResult()
	result.Image = target
	if result.Held, err = newHeld(r.options, r.dir, hold.State{Held: true, Hold: h}, nil); err != nil {
		return Result{}, err
	}
	in := installer(r.options, r.dir)
	in.Begin = func() error { return hold.Write(r.dir.Files, h) }
	result.Installed, err = in.Install(ctx, target)
	result.UpToDate = !result.Installed
	return result, err
}

// hold returns the hold after the rollback. One without an end stays so, and of two images
// that were left the newer one counts.
func (r *rollback) hold(target meta.Name) hold.Hold {
	h := hold.Hold{Since: now(), Image: target, From: r.inUse}
	old := r.before.Hold
	switch {
	case !r.before.Held:
		return h
	case r.before.Damage != nil || old.From == meta.Name{}:
		h.From = meta.Name{}
	case old.From.Version > h.From.Version:
		h.From = old.From
	}
	if old.Image == target || h.From == (meta.Name{}) && !old.Since.IsZero() {
		h.Since = old.Since
	}
	return h
}

// target returns the image to go back to, which was compared with its digest.
func (r *rollback) target(ctx context.Context) (meta.Name, error) {
	if r.options.Image != "" {
		return r.named(ctx)
	}
	if kept := r.before.Hold.Image; kept != (meta.Name{}) && r.dir.Digests.Pending() == kept { // it was interrupted
		return kept, r.mustBeRight(ctx, kept)
	}
	candidates, err := r.candidates()
	if err != nil {
		return meta.Name{}, err
	}
	var unknown []meta.Name
	for _, n := range candidates {
		err := r.recheck(ctx, n)
		switch {
		case err == nil:
			return n, nil
		case ctx.Err() != nil:
			return meta.Name{}, ctx.Err()
		case errors.Is(err, digestcache.ErrUnknown):
			unknown = append(unknown, n)
		default:
			r.options.Log.Warn("skipping an image that is damaged", "reason", err)
		}
	}
	if len(unknown) == 0 {
		return meta.Name{}, noImage("%s contains no intact image older than %s, which is in use", r.options.Dir, r.inUse)
	}
	r.warnUnknown(unknown[0])
	return unknown[0], nil
}

// candidates returns the images to go back to, the best first.
func (r *rollback) candidates() (all []meta.Name, err error) {
	if backup, ok := r.dir.Link(r.options.DefaultLink).Backup(); ok && backup.Version < r.inUse.Version {
		all = append(all, backup)
	}
	local, err := r.dir.Installed()
	for _, im := range slices.Backward(local) {
		n := im.Name
		if n.Version < r.inUse.Version && n.Series() == r.inUse.Series() && !slices.Contains(all, n) {
			all = append(all, n)
		}
	}
	return all, err
}

// named returns the image of the options, if it is right and the way to it leads back.
func (r *rollback) named(ctx context.Context) (meta.Name, error) {
	n, err := meta.ParseName(r.options.Image)
	if err != nil {
		return meta.Name{}, err
	}
	local, err := r.dir.Installed()
	if err != nil {
		return meta.Name{}, err
	}
	var names []string
	for _, im := range local {
		names = append(names, im.Name.String())
	}
	newest := max(r.inUse.Version, r.before.Hold.From.Version)
	switch {
	case !slices.Contains(names, n.String()):
		return meta.Name{}, noImage("%s is not in %s; choose one of %s", n, r.options.Dir, strings.Join(names, ", "))
	case n == r.inUse && r.before.Hold.Image != n:
		return meta.Name{}, fmt.Errorf("%s is already in use; run hold to keep it", n)
	case n.Version > newest:
		return meta.Name{}, fmt.Errorf("%s is newer than %s, which is in use; run update to install it", n, r.inUse)
	}
	return n, r.mustBeRight(ctx, n)
}

// mustBeRight returns an error for an image that is wrong, and a warning for one of which
// no digest is known.
func (r *rollback) mustBeRight(ctx context.Context, n meta.Name) error {
	err := r.recheck(ctx, n)
	switch {
	case errors.Is(err, digestcache.ErrUnknown):
		r.warnUnknown(n)
		return nil
	case errors.Is(err, digestcache.ErrWrong):
		return fmt.Errorf("%w: %w; it was not put to use", ErrVerify, err)
	}
	return err
}

// recheck compares an image with the digest that is known of it.
func (r *rollback) recheck(ctx context.Context, n meta.Name) error {
	r.report.image = n.String()
	return r.dir.Digests.Recheck(ctx, n.String(), func(done, total int64) {
		r.report.progress(stats.ImageChecksum, done, total)
		if r.options.Progress != nil {
			r.options.Progress(done, total)
		}
	})
}

func (r *rollback) warnUnknown(n meta.Name) {
	r.options.Log.Warn("the image was not checked, as no digest of it is known; run verify to check it against the mirror", "image", n.String())
}
