package meta

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"puavo-image-repository/cksum"
	"puavo-image-repository/meta/untrusted"
)

// File is one file of a mirror.
type File struct {
	URLs []string
	// Sums is the size and the digests. Size and SHA512 are always set; a zero CRC,
	// SHA256 or BLAKE3 is unknown.
	Sums cksum.Sums
}

// Diff is a delta to the image it belongs to.
type Diff struct {
	File
	Filename string // as DeltaName makes it
	Base     Name
}

// Image is one image of a series.
type Image struct {
	File
	Name Name
	// Conf is puavo-conf: the merged definitions of the image, never nil after
	// ParseSeries.
	Conf    map[string]json.RawMessage
	Diffs   []Diff
	Compact []Compact // those whose format is known
}

// Diff returns the delta that makes the image from base.
func (im *Image) Diff(base Name) (Diff, bool) {
	i := slices.IndexFunc(im.Diffs, func(d Diff) bool { return d.Base == base })
	if i < 0 {
		return Diff{}, false
	}
	return im.Diffs[i], true
}

// Series is the document of one series.
type Series struct {
	Name   string
	Images []Image // oldest first
}

// Image returns the image of that name.
func (s *Series) Image(n Name) (*Image, bool) {
	i := slices.IndexFunc(s.Images, func(im Image) bool { return im.Name == n })
	if i < 0 {
		return nil, false
	}
	return &s.Images[i], true
}

// Newest returns the last image, nil for a series without images.
func (s *Series) Newest() *Image {
	if len(s.Images) == 0 {
		return nil
	}
	return &s.Images[len(s.Images)-1]
}

// The documents, field by field in the order of their keys.
type (
	jsonSeries struct {
		Images list[jsonImage] `json:"images"`
	}
	jsonImage struct {
		Diffs    list[jsonDiff]             `json:"diffs"`
		Filename string                     `json:"filename"`
		ID       string                     `json:"id"`
		Conf     map[string]json.RawMessage `json:"puavo-conf"`
		Size     int64                      `json:"size"`
		URLs     list[string]               `json:"urls"`
		Version  string                     `json:"version"`
		jsonDigests
		Compact list[jsonCompact] `json:"compact,omitempty"`
	}
	jsonDiff struct {
		Filename string       `json:"filename"`
		URLs     list[string] `json:"urls"`
		Version  string       `json:"version"`
		Size     int64        `json:"size"`
		jsonDigests
	}
	jsonDigests struct {
		CRC    decimal         `json:"cksum"`
		SHA256 cksum.Digest256 `json:"sha256"`
		SHA512 cksum.Digest512 `json:"sha512"`
		BLAKE3 cksum.Digest256 `json:"blake3,omitzero"`
	}
)

// Encode returns the document of the series.
func (s *Series) Encode() ([]byte, error) {
	images := make([]jsonImage, 0, len(s.Images))
	for _, im := range s.Images {
		diffs := make([]jsonDiff, 0, len(im.Diffs))
		for _, d := range im.Diffs {
			diffs = append(diffs, jsonDiff{d.Filename, d.URLs, d.Base.Digits(), d.Sums.Size, digests(d.Sums)})
		}
		conf := im.Conf
		if conf == nil {
			conf = map[string]json.RawMessage{}
		}
		images = append(images, jsonImage{diffs, im.Name.String(), im.Name.ID(), conf,
			im.Sums.Size, im.URLs, im.Name.Digits(), digests(im.Sums), compactEntries(im.Compact)})
	}
	return encode(map[string]jsonSeries{s.Name: {images}})
}

// encode marshals v with <, > and & as they are, and a final newline.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return b.Bytes(), err
}

func digests(s cksum.Sums) jsonDigests {
	return jsonDigests{decimal(s.CRC), s.SHA256, s.SHA512, s.BLAKE3}
}

// ErrFormat is wrapped by the errors for malformed documents of a mirror.
var ErrFormat = errors.New("malformed document")

// malformed wraps an error in ErrFormat.
func malformed(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrFormat, err)
}

// ParseSeries parses the document of a series. Every name, version, size and
// digest in it is checked, and names agree with each other: a delta's with its
// image's, an id's with its file's. Errors wrap ErrFormat.
func ParseSeries(data []byte) (Series, error) {
	s, err := parseSeries(data)
	return s, malformed(err)
}

func parseSeries(data []byte) (Series, error) {
	var doc map[string]*jsonSeries
	if err := decode(data, &doc); err != nil {
		return Series{}, err
	}
	if len(doc) != 1 {
		return Series{}, fmt.Errorf("%d series in one document, want 1", len(doc))
	}
	for name, js := range doc {
		if _, err := ParseSeriesName(name); err != nil {
			return Series{}, err
		}
		if js == nil || js.Images == nil {
			return Series{}, fmt.Errorf("series %s: no images", name)
		}
		s, err := js.series(name)
		if err != nil {
			return Series{}, fmt.Errorf("series %s: %w", name, err)
		}
		return s, nil
	}
	panic("unreachable")
}

func (js *jsonSeries) series(name string) (Series, error) {
	s := Series{Name: name, Images: make([]Image, 0, len(js.Images))}
	seen := make(map[Name]bool, len(js.Images))
	for i := range js.Images {
		im, err := js.Images[i].image()
		if err != nil {
			return Series{}, fmt.Errorf("images[%d]: %w", i, err)
		}
		if seen[im.Name] {
			return Series{}, fmt.Errorf("images[%d]: %s appears twice", i, im.Name)
		}
		seen[im.Name] = true
		s.Images = append(s.Images, im)
	}
	slices.SortStableFunc(s.Images, func(a, b Image) int { return a.Name.Compare(b.Name) })
	return s, nil
}

func (ji *jsonImage) image() (Image, error) {
	name, err := ParseOldName(ji.Filename)
	if err != nil {
		return Image{}, err
	}
	if ji.ID != name.ID() || ji.Version != name.Digits() {
		return Image{}, fmt.Errorf("%s: id %s and version %s do not match the file name", name, untrusted.Quote(ji.ID), untrusted.Quote(ji.Version))
	}
	im := Image{Name: name, Conf: ji.Conf}
	if im.Conf == nil {
		im.Conf = map[string]json.RawMessage{}
	}
	if im.File, err = ji.file(ji.Size, ji.URLs); err != nil {
		return Image{}, fmt.Errorf("%s: %w", name, err)
	}
	for _, jd := range ji.Diffs {
		d, err := jd.diff(name)
		if err != nil {
			return Image{}, fmt.Errorf("%s: %w", name, err)
		}
		if _, dup := im.Diff(d.Base); dup {
			return Image{}, fmt.Errorf("%s: two diffs from %s", name, d.Base)
		}
		im.Diffs = append(im.Diffs, d)
	}
	if err := im.addCompact(ji.Compact); err != nil {
		return Image{}, fmt.Errorf("%s: %w", name, err)
	}
	return im, nil
}

func (jd *jsonDiff) diff(target Name) (Diff, error) {
	base, version, err := ParseOldDeltaName(jd.Filename)
	if err != nil {
		return Diff{}, err
	}
	if version != target.Version || jd.Version != base.Digits() {
		return Diff{}, fmt.Errorf("%s: its name does not match version %s or the image", jd.Filename, untrusted.Quote(jd.Version))
	}
	f, err := jd.file(jd.Size, jd.URLs)
	if err != nil {
		return Diff{}, fmt.Errorf("%s: %w", jd.Filename, err)
	}
	return Diff{File: f, Filename: jd.Filename, Base: base}, nil
}

func (jd *jsonDigests) file(size int64, urls []string) (File, error) {
	if size < 0 {
		return File{}, fmt.Errorf("size %d is negative", size)
	}
	if size > MaxSize {
		return File{}, fmt.Errorf("size %d is over %d", size, int64(MaxSize))
	}
	if jd.SHA512 == (cksum.Digest512{}) {
		return File{}, errors.New("no sha512")
	}
	return File{URLs: urls, Sums: cksum.Sums{
		Size: size, CRC: uint32(jd.CRC), SHA256: jd.SHA256, SHA512: jd.SHA512, BLAKE3: jd.BLAKE3,
	}}, nil
}
