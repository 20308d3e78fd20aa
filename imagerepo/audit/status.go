package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/meta"
)

// Status is what a mirror holds, by its documents. A file that several series
// name counts once in the totals.
type Status struct {
	Series     []SeriesStatus `json:"series"` // sorted by name
	Images     int            `json:"images"`
	ImageBytes int64          `json:"image_bytes"`
	Deltas     int            `json:"deltas"`
	DeltaBytes int64          `json:"delta_bytes"`
	// Compact are the compact deltas, which Deltas do not count.
	Compact      int   `json:"compact_deltas,omitempty"`
	CompactBytes int64 `json:"compact_bytes,omitempty"`

	Torrents int      `json:"torrents,omitempty"`
	Page     string   `json:"page,omitempty"`     // path of the page for people, "" if none is published
	LastRun  *LastRun `json:"last_run,omitempty"` // nil where it is not known
}

// SeriesStatus is what a mirror holds of one series.
type SeriesStatus struct {
	Name   string        `json:"name"`
	Images []ImageStatus `json:"images"` // oldest first
}

// ImageStatus is an image and the deltas that make it.
type ImageStatus struct {
	File    string        `json:"file"`
	Version string        `json:"version"` // 14 digits, as in the meta
	Size    int64         `json:"size"`
	Deltas  []DeltaStatus `json:"deltas"` // in the order of the meta
	// Compact are the compact deltas to it, likewise. One without a base has none.
	Compact []DeltaStatus `json:"compact,omitempty"`
}

// DeltaStatus is a delta.
type DeltaStatus struct {
	Base    string  `json:"base,omitempty"` // the file name of the image
	File    string  `json:"file"`
	Size    int64   `json:"size"`
	Share   float64 `json:"share"`   // of the size of the image it makes
	Retired bool    `json:"retired"` // its base is no longer an image of the series
}

// LastRun is how the last run of the builder went.
type LastRun struct {
	Began   time.Time `json:"began"`
	Seconds float64   `json:"seconds"` // it took
	Error   string    `json:"error,omitempty"`
	Success time.Time `json:"success,omitzero"` // when the last one without an error ended
}

// StatusOf returns what a mirror holds. It reads only the meta and the lists, so it does
// not know whether the files that they name exist. A document that cannot be
// read or parsed is an error that names it; a directory that is no mirror is
// ErrNoMirror.
func StatusOf(mirrorDir string) (s Status, err error) {
	m, err := open(mirrorDir)
	if err != nil {
		return Status{}, err
	}
	defer m.Close()
	for range statusTries {
		before := stampAt(m.Root, mirror.Index)
		if s, err = statusOf(m); err == nil || stampAt(m.Root, mirror.Index) == before {
			break
		}
	}
	return s, err
}

// statusTries is how often the status is read at most, while the index changes: a
// run of the builder removes the meta of a series when no index names it.
const statusTries = 20

func statusOf(m *mirror.Mirror) (Status, error) {
	paths, err := publishedMeta(m.Root)
	if err != nil {
		return Status{}, advise(err)
	}
	s := Status{Series: []SeriesStatus{}, Page: publishedPage(m.Root), Torrents: publishedTorrents(m.Root), LastRun: lastRun(m)}
	counted := make(map[string]bool)
	for _, p := range paths {
		series, err := readParsed(m.Root, p, meta.ParseSeries)
		if err != nil {
			return Status{}, advise(err)
		}
		status := seriesStatus(series)
		s.Series = append(s.Series, status)
		s.count(status, counted)
	}
	return s, nil
}

// publishedMeta returns the paths of the meta that the index names, or where
// there is none, of all.
func publishedMeta(root atomicfile.Dir) (paths []string, err error) {
	index, err := readParsed(root, mirror.Index, meta.ParseIndex)
	if errors.Is(err, fs.ErrNotExist) {
		return allMeta(root)
	}
	for _, e := range index.Series {
		paths = append(paths, e.Meta)
	}
	return paths, err
}

// publishedPage returns the path of the page for people if SHA256SUMS names it.
func publishedPage(root atomicfile.Dir) string {
	lines, err := readParsed(root, mirror.SHA256, ofBytes(cksum.ParseSHA256SUMS))
	if err == nil && slices.ContainsFunc(lines, func(l cksum.SHA256Line) bool { return l.Path == mirror.Page }) {
		return mirror.Page
	}
	return "" // a list that is damaged is for Verify to report
}

// publishedTorrents returns how many torrents their list names.
func publishedTorrents(root atomicfile.Dir) (n int) {
	lines, _ := readParsed(root, mirror.ListOf(mirror.TorrentDir+"/x"), ofBytes(cksum.ParseSHA256SUMS)) // likewise
	for _, l := range lines {
		if _, ours := torrentOf(mirror.TorrentDir + "/" + l.Path); ours {
			n++
		}
	}
	return n
}

// readParsed reads and parses a document.
func readParsed[T any](root atomicfile.Dir, name string, parse func([]byte) (T, error)) (T, error) {
	data, err := readDocument(root, name)
	if err != nil {
		return *new(T), fmt.Errorf("%s: %w", name, err)
	}
	parsed, err := parse(data)
	if err != nil {
		return *new(T), fmt.Errorf("%s: %w", name, err)
	}
	return parsed, nil
}

func advise(err error) error { return fmt.Errorf("%w; verify the mirror, or build it again", err) }

// LastRunOf returns how the last run of the builder for a mirror went, nil if no run is
// known. A run that did not get the mirror's lock leaves no trace.
func LastRunOf(mirrorDir string) *LastRun {
	m, err := mirror.View(mirrorDir)
	if err != nil {
		return nil
	}
	defer m.Close()
	return lastRun(m)
}

func lastRun(m *mirror.Mirror) *LastRun {
	r := m.LastRun()
	if r.Began.IsZero() {
		return nil
	}
	return &LastRun{r.Began, r.Seconds, r.Error, r.Success}
}

func seriesStatus(s meta.Series) SeriesStatus {
	status := SeriesStatus{Name: s.Name, Images: []ImageStatus{}}
	for i := range s.Images {
		im := &s.Images[i]
		of := ImageStatus{File: im.Name.String(), Version: im.Name.Digits(), Size: im.Sums.Size, Deltas: []DeltaStatus{}}
		for _, d := range im.Diffs {
			of.Deltas = append(of.Deltas, deltaStatus(s, im, d.Base, d.Filename, d.Sums.Size))
		}
		for _, c := range im.Compact {
			of.Compact = append(of.Compact, deltaStatus(s, im, c.Base, c.Filename, c.Sums.Size))
		}
		status.Images = append(status.Images, of)
	}
	return status
}

// deltaStatus returns what is known of a delta to an image of a series.
func deltaStatus(s meta.Series, target *meta.Image, base meta.Name, file string, size int64) DeltaStatus {
	d := DeltaStatus{File: file, Size: size, Share: float64(size) / float64(max(target.Sums.Size, 1))}
	if base != (meta.Name{}) {
		_, there := s.Image(base)
		d.Base, d.Retired = base.String(), !there
	}
	return d
}

// count adds to the totals those files of a series that are not yet counted.
func (s *Status) count(series SeriesStatus, counted map[string]bool) {
	for _, im := range series.Images {
		if !counted[im.File] {
			counted[im.File] = true
			s.Images++
			s.ImageBytes += im.Size
		}
		for _, d := range im.Deltas {
			if !counted[d.File] {
				counted[d.File] = true
				s.Deltas++
				s.DeltaBytes += d.Size
			}
		}
		for _, c := range im.Compact {
			if !counted[c.File] {
				counted[c.File] = true
				s.Compact++
				s.CompactBytes += c.Size
			}
		}
	}
}
