package published

import (
	"slices"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/meta"
)

// SetCompact puts a compact delta to an image of a series into the documents in memory, in the
// place of one from the same base; call Write then. Torrent is the SHA-256 of its torrent, zero
// if it has none. It changes nothing and returns false if the image is not in the series, or
// no document names the base. The documents must not name another content of the file: that is
// withdrawn, and they are written, before the file changes.
func (d *Documents) SetCompact(name string, target meta.Name, c meta.Compact, torrent cksum.Digest256) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.series[name]
	if _, published := d.sums[c.Base.String()]; s == nil || c.Base != (meta.Name{}) && !published {
		return false
	}
	i := slices.IndexFunc(s.Images, func(im meta.Image) bool { return im.Name == target })
	if i < 0 {
		return false
	}
	s.Images, s.data = slices.Clone(s.Images), nil // whoever has the document may go on reading it
	s.Images[i].Compact = WithCompact(s.Images[i].Compact, c)
	d.index()
	d.lines[c.Filename] = d.lines[c.Filename].or(c.Filename, c.Sums)
	delete(d.lines, mirror.TorrentOf(c.Filename))
	if torrent != (cksum.Digest256{}) {
		d.lines[mirror.TorrentOf(c.Filename)] = line{sha256: &torrent}
	}
	d.dirty = true
	return true
}

// WithCompact returns the compact deltas of an image with one more, or with another one from
// its base. One without a base is first, the others follow in the order of their bases.
func WithCompact(all []meta.Compact, c meta.Compact) []meta.Compact {
	all = slices.DeleteFunc(slices.Clone(all), func(other meta.Compact) bool { return other.Base == c.Base })
	all = append(all, c)
	slices.SortFunc(all, func(a, b meta.Compact) int { return a.Base.Compare(b.Base) })
	return all
}

// withdrawCompact takes those compact deltas out of an image that are gone, or whose base is,
// or all, and adds them to those that are gone.
func withdrawCompact(im *meta.Image, gone map[string]bool, all bool) (found bool) {
	var stay []meta.Compact
	for _, c := range im.Compact {
		if all || gone[c.Filename] || gone[c.Base.String()] {
			gone[c.Filename], found = true, true
			continue
		}
		stay = append(stay, c)
	}
	im.Compact = stay
	return found
}
