package disk

import (
	"fmt"
	"path"
	"strings"

	"puavo-image-repository/imagerepo/archive/internal/nbd"
	"puavo-image-repository/meta"
	"puavo-image-repository/meta/untrusted"
)

// Format is what a disk is.
type Format string

// The formats.
const (
	Raw   Format = "raw" // a file or a block device
	QCOW2 Format = "qcow2"
	NBD   Format = "nbd" // an export
)

// Spec says where a disk is.
type Spec struct {
	Name   string `json:"disk"`
	Format Format `json:"format"`
	Source string `json:"source"` // a path, or the address of an export
	// Explicit says that the format was given, and is not that of the path's ending.
	Explicit bool `json:"-"`
}

// ParseSpec parses [NAME=]SOURCE, where SOURCE is a path, raw:PATH, qcow2:PATH, or the address
// of an NBD export. A path that ends in .qcow2 is one, and any other raw: the format is not
// guessed from the content, which the guest writes. The name is by default that of the file,
// without its ending, or of the export.
func ParseSpec(s string) (d Spec, err error) {
	d.Source = s
	if name, rest, ok := strings.Cut(s, "="); ok {
		if _, err := meta.ParseSeriesName(name); err == nil {
			d.Name, d.Source = name, rest
		}
	}
	d.Format = Raw
	after := ""
	switch scheme, rest, _ := strings.Cut(d.Source, ":"); {
	case scheme == string(Raw) && rest != "":
		d.Source, d.Explicit = rest, true
	case scheme == string(QCOW2) && rest != "":
		d.Source, d.Format, d.Explicit = rest, QCOW2, true
	case strings.HasPrefix(scheme, "nbd") && strings.HasPrefix(rest, "//"):
		a, err := nbd.ParseURI(d.Source)
		if err != nil {
			return d, err
		}
		d.Format, after = NBD, a.Export
	case strings.HasSuffix(d.Source, "."+string(QCOW2)):
		d.Format = QCOW2
	}
	if after == "" && d.Format != NBD {
		after = strings.TrimSuffix(path.Base(d.Source), path.Ext(d.Source))
	}
	if d.Name == "" {
		d.Name = after
	}
	if d.Source == "" {
		return d, fmt.Errorf("%s names no disk", untrusted.Quote(s))
	}
	if _, err := meta.ParseSeriesName(d.Name); err != nil {
		return d, fmt.Errorf("%s: the disk needs a name of letters and digits; put it before the disk, such as vda=%s", untrusted.Quote(s), untrusted.Show(d.Source))
	}
	return d, nil
}
