package client

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"puavo-image-repository/imagerepo/client/internal/cost"
	"puavo-image-repository/imagerepo/client/internal/imagedir"
	"puavo-image-repository/imagerepo/client/internal/source"
	"puavo-image-repository/imagerepo/internal/fetch"
	"puavo-image-repository/imagerepo/internal/tuf"
	"puavo-image-repository/meta"
	"puavo-image-repository/meta/untrusted"
)

// mirror gives the meta of a mirror, and its files.
type mirror struct {
	*fetch.Mirror
	signed *tuf.Documents // nil if no root is trusted
}

// mirrors are those of the options, each opened once.
type mirrors struct {
	options Options
	dir     *imagedir.Dir
	root    []byte // to trust, nil for none
	opened  map[string]*fetch.Mirror
	fetched atomic.Int64 // bytes, but for those from the images directory
	known   cost.Known
	// authorities reads Options.CACertificate when it is first called: a pipe can be read
	// only once.
	authorities func() (*x509.CertPool, error)
}

func newMirrors(ctx context.Context, o Options, dir *imagedir.Dir) (*mirrors, error) {
	root, err := readRoot(ctx, o.Trust)
	authorities := sync.OnceValues(func() (*x509.CertPool, error) { return fetch.Authorities(ctx, o.CACertificate) })
	return &mirrors{options: o, dir: dir, root: root, opened: make(map[string]*fetch.Mirror), authorities: authorities, known: cost.Read(dir.Files)}, err
}

func (ms *mirrors) close() {
	for _, m := range ms.opened {
		m.Close()
	}
}

// each calls use with one mirror after the other until it succeeds, or fails with a
// permanent error.
func (ms *mirrors) each(ctx context.Context, use func(m mirror) error) error {
	var failed []error
	for i, where := range ms.options.Mirrors {
		err := ms.use(ctx, where, use)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case isPermanent(err):
			return err
		case i < len(ms.options.Mirrors)-1:
			ms.options.Log.Warn("trying the next mirror", "reason", err)
		}
		if len(failed) == 0 || !errors.Is(err, errNoOther) {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

func (ms *mirrors) use(ctx context.Context, where string, use func(m mirror) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m, err := ms.open(where, false)
	if err != nil {
		return err
	}
	signed, err := refresh(ctx, m, ms.root, ms.dir, !ms.dir.Locked())
	if err != nil {
		return err
	}
	return use(mirror{m, signed})
}

// open opens a mirror, or returns the one that is open. A host for payload gets less
// patience: there are others.
func (ms *mirrors) open(where string, payloadOnly bool) (*fetch.Mirror, error) {
	key := fmt.Sprint(where, payloadOnly)
	if m, ok := ms.opened[key]; ok {
		return m, nil
	}
	o := fetch.Options{
		Authorities: ms.authorities, Rate: ms.options.Rate, Patience: fetch.Patience(ms.options.Patience),
		PayloadOnly: payloadOnly, Log: ms.options.Log,
	}
	if where != ms.options.Dir {
		o.Counted = func(n int) { ms.fetched.Add(int64(n)) }
	}
	if payloadOnly {
		o.Patience.Attempts = min(cmp.Or(o.Patience.Attempts, fewAttempts), fewAttempts)
	}
	m, err := fetch.Open(where, o)
	if err == nil {
		ms.opened[key] = m
	}
	return m, err
}

// fewAttempts is the Patience.Attempts for a host that others can stand in for.
const fewAttempts = 2

// permanent is an error that no other mirror mends.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

func isPermanent(err error) bool {
	_, ok := errors.AsType[permanent](err)
	return ok
}

// readRoot returns the root to trust, nil if no path is given.
func readRoot(ctx context.Context, path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	const most = 1 << 20
	data, err := untrusted.ReadFile(ctx, path, most)
	if err != nil {
		return nil, fmt.Errorf("the root of trust: %w", err)
	}
	if err := tuf.CheckRoot(data); err != nil {
		return nil, fmt.Errorf("%s is not a root of trust: %w", path, err)
	}
	return data, nil
}

// refresh verifies the signed metadata of a mirror, if a root is trusted. The result
// is recorded unless that is to be left as it is.
func refresh(ctx context.Context, m *fetch.Mirror, root []byte, dir *imagedir.Dir, readOnly bool) (*tuf.Documents, error) {
	if root == nil {
		return nil, nil
	}
	recorded, err := dir.Sub(tuf.ClientDir)
	if err != nil {
		return nil, err
	}
	if !recorded.IsZero() {
		defer recorded.Close()
	}
	signed, err := tuf.Client{Root: root, Dir: recorded, ReadOnly: readOnly}.Refresh(ctx, reader(m))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m, err)
	}
	return signed, nil
}

// reader returns the tuf.ReadFunc of a mirror.
func reader(m *fetch.Mirror) tuf.ReadFunc {
	return func(ctx context.Context, name string, most int64) ([]byte, error) {
		data, err := m.Document(ctx, name, most)
		if errors.Is(err, fetch.ErrTooLarge) {
			err = fmt.Errorf("%w (%w)", err, tuf.ErrEndlessData)
		}
		return data, err
	}
}

// document returns a document, verified if a root is trusted.
func (m mirror) document(ctx context.Context, name string) ([]byte, error) {
	if m.signed != nil {
		return m.signed.Read(ctx, name, meta.MaxDocument)
	}
	return m.Document(ctx, name, meta.MaxDocument)
}

// maxSeries is how many series of an index are looked at: each takes a request.
const maxSeries = 256

// seriesOf returns the series that lists an image. Most often that has the name that
// the image's name gives; if not, seriesOf looks in the series of the index. An image
// that no series lists leads to the one whose name its name gives.
func (m mirror) seriesOf(ctx context.Context, n meta.Name) (*meta.Series, error) {
	own, ownErr := m.series(ctx, n.Series())
	if ownErr == nil && lists(own, n) {
		return own, nil
	} else if ownErr != nil && !errors.Is(ownErr, fs.ErrNotExist) {
		return nil, ownErr
	}
	index, missing, err := m.index(ctx)
	if err != nil {
		return nil, err
	}
	for _, e := range index.Series[:min(len(index.Series), maxSeries)] {
		if e.Name == n.Series() {
			continue
		}
		if s, err := m.series(ctx, e.Name); err != nil || lists(s, n) {
			return s, err
		}
	}
	switch {
	case ownErr == nil:
		return own, nil
	case missing != nil:
		return nil, m.noRepository(missing, meta.SeriesPath(n.Series()))
	case len(index.Series) > maxSeries:
		return nil, fmt.Errorf("%w: %s is in none of the first %d series of the mirror, which lists %d: %w", ErrNoImage, n, maxSeries, len(index.Series), ownErr)
	}
	return nil, fmt.Errorf("%w: %s is in no series of the mirror: %w", ErrNoImage, n, ownErr)
}

// wrongAddress is an ErrNoImage for a mirror that has no index, and may be none.
type wrongAddress struct {
	text    string
	missing error // the error for the index
}

func (e *wrongAddress) Error() string { return e.text }

func (e *wrongAddress) Unwrap() []error { return []error{ErrNoImage, e.missing} }

// noRepository returns the error for a mirror that has no index, for the reason given,
// nor the series wanted.
func (m mirror) noRepository(missing error, wanted string) error {
	answer := "no such file"
	if code, ok := errors.AsType[fetch.Absent](missing); ok {
		answer = strconv.Itoa(int(code))
	}
	return &wrongAddress{fmt.Sprintf("%s is not a repository (%s at %s/index.json), nor an old one with %s", m, answer, m, wanted), missing}
}

// lists reports whether a series lists an image.
func lists(s *meta.Series, n meta.Name) bool {
	_, ok := s.Image(n)
	return ok
}

// index returns the index. Mirrors of the predecessor have none; missing then says so.
func (m mirror) index(ctx context.Context) (index meta.Index, missing, err error) {
	data, err := m.document(ctx, "index.json")
	if errors.Is(err, fs.ErrNotExist) {
		return meta.Index{}, err, nil
	} else if err != nil {
		return meta.Index{}, nil, err
	}
	if index, err = meta.ParseIndex(data); err != nil {
		return meta.Index{}, nil, fmt.Errorf("index.json: %w", err)
	}
	return index, nil, nil
}

// series returns the series of that name.
func (m mirror) series(ctx context.Context, name string) (*meta.Series, error) {
	data, err := m.document(ctx, meta.SeriesPath(name))
	if err != nil {
		return nil, err
	}
	s, err := meta.ParseSeries(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", meta.SeriesPath(name), err)
	}
	return &s, nil
}

// offer is what a mirror has for an images directory.
type offer struct {
	mirror mirror
	source.Wanted
}

// fetchOffer fetches the meta of a mirror and finds the wanted image.
func fetchOffer(ctx context.Context, o Options, dir *imagedir.Dir, m mirror) (*offer, error) {
	if o.Image == "" && o.Series != "" {
		series, err := m.named(ctx, o.Series)
		if err != nil {
			return nil, err
		}
		return newOffer(o, dir, m, series, series.Newest(), o.Series)
	}
	guide, err := findGuide(o, dir)
	if err != nil {
		return nil, err
	}
	series, err := m.seriesOf(ctx, guide)
	if err != nil {
		return nil, err
	}
	target := series.Newest()
	if o.Image != "" {
		target, _ = series.Image(guide)
	}
	return newOffer(o, dir, m, series, target, guide.String())
}

// newOffer returns the offer of an image, nil if the mirror has not what was wanted.
func newOffer(o Options, dir *imagedir.Dir, m mirror, series *meta.Series, target *meta.Image, wanted string) (*offer, error) {
	if target == nil {
		return nil, fmt.Errorf("%w: %s is not in the series %s of the mirror", ErrNoImage, wanted, series.Name)
	}
	of := &offer{m, source.Wanted{Series: series, Target: target, Images: source.Index(series)}}
	return of, checkAge(o, dir, of)
}

// named returns the series of a name that the user has given. If it does not exist, the
// error says which do.
func (m mirror) named(ctx context.Context, name string) (*meta.Series, error) {
	series, err := m.series(ctx, name)
	if !errors.Is(err, fs.ErrNotExist) {
		return series, err
	}
	index, missing, indexErr := m.index(ctx)
	switch {
	case indexErr != nil:
		return nil, indexErr
	case missing != nil:
		return nil, m.noRepository(missing, meta.SeriesPath(name))
	}
	const most = 20
	var names []string
	for _, e := range index.Series[:min(len(index.Series), most)] {
		names = append(names, e.Name)
	}
	if len(index.Series) > most {
		names = append(names, fmt.Sprintf("and %d more", len(index.Series)-most))
	}
	return nil, fmt.Errorf("%w: the mirror has no series %s; it has %s", ErrNoImage, name, strings.Join(names, ", "))
}

// findGuide returns the image that leads to the series: the wanted one, or else the
// default image, or else the newest local one.
func findGuide(o Options, dir *imagedir.Dir) (meta.Name, error) {
	if o.Image != "" {
		return meta.ParseName(o.Image)
	}
	image, ok, err := inUse(o, dir)
	if err == nil && !ok {
		err = noImage("%s contains no image yet, so the series is unknown; give --series", o.Dir)
	}
	return image, err
}

// checkAge refuses a target that is older than the image in use, if a root is
// trusted and that is not allowed: a signed image may still be old.
func checkAge(o Options, dir *imagedir.Dir, of *offer) error {
	if of.mirror.signed == nil || o.AllowDowngrade || o.Image == "" {
		return nil
	}
	inUse, ok := dir.Link(o.DefaultLink).Image()
	if !ok {
		local, err := ofSeries(dir, of)
		if err != nil || len(local) == 0 {
			return err
		}
		inUse = local[len(local)-1]
	}
	if of.Target.Name.Version < inUse.Version {
		return permanent{fmt.Errorf("%w: %s is older than %s, which is in use (downgrade attack?); to install it anyway, give --allow-downgrade",
			ErrUntrusted, of.Target.Name, inUse)}
	}
	return nil
}

// hasNewer reports whether no image was named and a local image of the series, or
// the one that led to the series if none was named, is newer than the target.
func hasNewer(o Options, dir *imagedir.Dir, of *offer) (bool, error) {
	if o.Image != "" {
		return false, nil
	}
	if o.Series == "" {
		if guide, err := findGuide(o, dir); err != nil || guide.Version > of.Target.Name.Version {
			return err == nil, err
		}
	}
	local, err := ofSeries(dir, of)
	return len(local) > 0 && local[len(local)-1].Version > of.Target.Name.Version, err
}

// ofSeries returns the local images of the series, oldest first. One that the mirror
// does not list belongs to it by its name.
func ofSeries(dir *imagedir.Dir, of *offer) (names []meta.Name, err error) {
	local, err := dir.Installed()
	for _, l := range local {
		if lists(of.Series, l.Name) || l.Name.Series() == of.Target.Name.Series() {
			names = append(names, l.Name)
		}
	}
	return names, err
}
