package edition

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"path"
	"slices"
	"time"

	"puavo-image-repository/imagerepo/internal/edition/record"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/scratch"
	"puavo-image-repository/imagerepo/internal/store"
	"puavo-image-repository/imagerepo/internal/tuf"
)

// Options say how an edition replaces another.
type Options struct {
	Verify       Verify
	Grace        time.Duration // after which orphans are removed
	AllowRemoval bool          // permits an edition that lacks more than half of the images
	DryRun       bool          // signs nothing; Run is not called
	Signs        bool          // with DryRun: the run will have a Signer
	Jobs         int           // files at a time
	Log          *slog.Logger
	// Progress, which may be nil, is called with the bytes sent and in all, from several
	// goroutines; Stage with what is worked on; Sent with each file of payload that is there.
	Progress func(done, total int64)
	Stage    func(stage, file string)
	Sent     func(file string, size int64)
}

// Work is a plan with the bytes that it writes.
type Work struct {
	Plan Plan

	options    Options
	source     Source
	store      store.Store
	edition    *edition
	inventory  *Inventory
	holds      map[string]record.Content // what the destination has of the edition
	compared   comparison
	withdrawal withdrawal
	signs      bool      // see Plan.Signs
	now        time.Time // by the clock of the store
}

// Prepare reads an edition and plans how it replaces the one that a destination has. It may
// sign both. Afterwards the documents of the source may change, while Run is at work.
func Prepare(ctx context.Context, src Source, s store.Store, v *Inventory, o Options) (*Work, error) {
	if err := scratch.Clean(scratchFor); err != nil {
		o.Log.Warn("what a run that was killed has left among the temporary files stays", "reason", err)
	}
	w := &Work{options: o, source: src, store: s, inventory: v, now: time.Now()}
	if !o.DryRun { // which writes nothing, not even to see the time
		var err error
		if w.now, err = s.Now(ctx); err != nil {
			return nil, err
		}
	}
	if err := w.read(ctx); err != nil {
		return nil, err
	}
	if !o.AllowRemoval {
		if err := checkRemoval(w.edition, v, s.String()); err != nil {
			return nil, err
		}
	}
	if err := w.checkPage(); err != nil {
		return nil, err
	}
	if err := w.checkTrust(); err != nil {
		return nil, err
	}
	lead, err := w.mustLead(ctx)
	if err != nil {
		return nil, err
	}
	if err := w.prepareWithdrawal(ctx, lead); err != nil {
		return nil, err
	}
	w.Plan = w.plan()
	return w, nil
}

// prepareWithdrawal finds out what is withdrawn before changed payload gets its names, and
// signs what must be. With lead the clients of the destination must be led to new roots.
func (w *Work) prepareWithdrawal(ctx context.Context, lead bool) (err error) {
	var signer Signer
	if len(w.inventory.trustOf().timestamp) > 0 {
		signer = w.source.Sign
	}
	if len(w.compared.changed) > 0 || lead && signer != nil {
		if w.withdrawal, err = withdraw(ctx, w.store, w.inventory, w.compared.changed, signer, w.edition.version(), w.options.Log); err != nil {
			return err
		}
	}
	w.signs = w.options.Signs && len(w.inventory.trustOf().timestamp) > 0 && (lead || len(w.compared.changed) > 0)
	if err := w.signAfter(ctx); err != nil {
		return err
	}
	gone := make(map[string]bool)
	for _, name := range slices.Concat(w.compared.changed, w.compared.writes, namesOf(w.withdrawal.documents)) {
		gone[name] = true
	}
	w.withdrawal.lists = shorten(w.inventory.documents, gone)
	return nil
}

// read reads the edition of a mirror, and compares it with what the destination holds.
func (w *Work) read(ctx context.Context) (err error) {
	if w.edition, err = w.source.read(ctx); err != nil {
		return err
	}
	w.holds = make(map[string]record.Content)
	for name, wanted := range w.edition.all() {
		if content, exists := w.inventory.held(name, wanted, w.options.Verify); exists {
			w.holds[name] = content
		}
	}
	w.compared = compare(w.edition, w.holds, w.inventory.record.Files)
	return nil
}

// signAfter signs the mirror once more if clients of the destination have seen, or will see, a
// later timestamp than its own, and reads it again.
func (w *Work) signAfter(ctx context.Context) error {
	after := w.inventory.trustOf().version()
	if w.withdrawal.signed != nil {
		after = max(after, w.withdrawal.signed.version())
	}
	own := w.edition.version()
	if own == 0 {
		return nil
	}
	signed, err := w.edition.isSigned(ctx)
	switch {
	case err != nil:
		return err
	case w.source.Sign == nil && !signed && !w.options.DryRun:
		return fmt.Errorf("%w: it is signed, but not what was built last, which clients with --trust would refuse; build it with --sign-keys, or give --sign-keys", ErrMirror)
	case signed && (own > after || own == after && w.withdrawal.signed == nil):
		return nil
	case w.source.Sign == nil:
		w.signs = w.options.Signs
		return nil
	}
	if _, err := w.source.Sign.SignAfter(ctx, w.source.Dir, after); err != nil {
		return err
	}
	return w.read(ctx)
}

// version returns the version of the timestamp, 0 if there is none that can be read.
func (e *edition) version() int64 {
	if len(e.timestamp) == 0 {
		return 0
	}
	n, _ := tuf.TimestampVersion(e.timestamp[0].data)
	return n
}

// trustOf returns the timestamp and the roots of a destination.
func (v *Inventory) trustOf() *edition {
	e := &edition{}
	for name, data := range v.documents {
		switch {
		case isRoot(name):
			e.roots = append(e.roots, document{name, data})
		case name == tuf.MetadataPath("timestamp", 0):
			e.timestamp = append(e.timestamp, document{name, data})
		}
	}
	sortRoots(e.roots)
	return e
}

// checkPage refuses to replace a page for people that somebody else has made.
func (w *Work) checkPage() error {
	page, exists := w.inventory.documents[mirror.Page]
	_, recorded := w.inventory.record.Files[mirror.Page]
	has := slices.ContainsFunc(w.edition.documents, func(d document) bool { return d.name == mirror.Page })
	if !exists || !has || recorded || w.inventory.listed[mirror.Page] == sha256.Sum256(page) {
		return nil
	}
	return fmt.Errorf("%w: %s has an %s that was not published by this tool; move it away, or build the mirror with --no-page", ErrMirror, w.store, mirror.Page)
}

// checkTrust refuses a mirror with which clients of the destination that verify signatures
// could not go on.
func (w *Work) checkTrust() error {
	s, there, here := w.store, w.inventory.trustOf(), w.edition
	if len(there.timestamp) == 0 && len(there.roots) == 0 {
		return nil
	}
	if len(here.timestamp) == 0 {
		if w.options.AllowRemoval {
			return nil
		}
		return fmt.Errorf("%w: %s is signed, and the mirror is not; build it with --sign-keys, or give --allow-removal to end that", ErrMirror, s)
	}
	ours := maps.Collect(byName(here.roots))
	for _, d := range there.roots {
		if string(ours[d.name]) != string(d.data) {
			return fmt.Errorf("%w: %s of %s is not the mirror's: it is signed with other keys; build the mirror with those, or remove tuf there", ErrMirror, d.name, s)
		}
	}
	if w.source.Sign == nil && !w.options.DryRun && there.version() > here.version() {
		return fmt.Errorf("%w: %s was signed later than the mirror, and clients would refuse to go back; run keys renew, or give --sign-keys", ErrMirror, s)
	}
	return nil
}

// mustLead reports whether the timestamp of the mirror leads clients of the destination to
// new roots only after one of the destination's own was signed by the old keys and the new.
func (w *Work) mustLead(ctx context.Context) (bool, error) {
	root := newestRoot(w.inventory.documents)
	if root == nil || len(w.edition.timestamp) == 0 || len(w.inventory.trustOf().roots) == len(w.edition.roots) {
		return false, nil
	}
	verified, _ := tuf.Verify(ctx, root, w.edition.signedFile)
	if verified != nil && verified.Timestamp != nil {
		return false, ctx.Err()
	}
	if w.source.Sign == nil && !w.options.Signs {
		w.options.Log.Warn("the keys changed, and the mirror was signed more than once since: clients with --trust refuse the destination for a moment; give --sign-keys")
	}
	return true, ctx.Err()
}

// signedFile returns a signed file, see tuf.ReadFunc.
func (e *edition) signedFile(ctx context.Context, name string, _ int64) ([]byte, error) {
	for _, d := range slices.Concat(e.timestamp, e.trusted) {
		if d.name == name {
			return d.data, ctx.Err()
		}
	}
	return nil, fs.ErrNotExist
}

// isSigned reports whether the signed targets are the documents: a build without the keys
// leaves those that were signed before.
func (e *edition) isSigned(ctx context.Context) (bool, error) {
	verified, err := tuf.Verify(ctx, e.roots[len(e.roots)-1].data, e.signedFile)
	if err != nil {
		return false, ctx.Err()
	}
	targets := verified.Targets["targets"].Signed.Targets
	for _, d := range e.documents {
		if d.name != mirror.Index && (path.Dir(d.name) != mirror.MetaDir || isList(d.name)) {
			continue
		}
		sum := sha256.Sum256(d.data)
		if t := targets[d.name]; t == nil || !bytes.Equal(t.Hashes["sha256"], sum[:]) {
			return false, nil
		}
	}
	return true, nil
}

// plan returns the plan.
func (w *Work) plan() Plan {
	s := w.store
	p := Plan{Destination: s.String(), Kept: len(w.compared.same), Withdraw: namesOf(w.withdrawal.all()), Signs: w.signs}
	all := w.edition.all()
	for _, name := range w.compared.fresh {
		if isPayload(name) {
			p.New = append(p.New, File{Name: name, Size: all[name].Size})
		} else {
			p.Signed = append(p.Signed, name)
		}
	}
	for _, name := range w.compared.changed {
		p.Changed = append(p.Changed, File{Name: name, Size: all[name].Size})
	}
	for _, name := range w.compared.writes {
		if w.edition.isTrust(name) {
			p.Trust = append(p.Trust, name)
		} else {
			p.Documents = append(p.Documents, name)
		}
	}
	p.Remove = removals(w.compared.orphans, w.inventory, w.options.Grace, w.now)
	for _, f := range slices.Concat(p.New, p.Changed) {
		p.Bytes += f.Size
		p.Requests += s.Requests(f.Size)
	}
	if small := s.Requests(0); small > 0 {
		p.Requests += int64(len(p.Signed) + len(p.Withdraw) + len(p.Documents) + len(p.Trust) + len(p.Remove))
	}
	if rate := w.inventory.record.Rate; rate > 0 {
		p.Seconds = float64(p.Bytes) / rate
	}
	return p
}

// isTrust reports whether a file is the timestamp or a root.
func (e *edition) isTrust(name string) bool {
	return slices.ContainsFunc(slices.Concat(e.timestamp, e.roots), func(d document) bool { return d.name == name })
}
