// Package torrents makes the torrents of a mirror, which clients find at the root of its
// host: torrents/<file>.torrent for an image or a delta, compact ones too. Package torrent has their format.
//
//	torrents/SHA256SUMS   names them, and no other document does
//
// # A torrent and its file
//
// Clients look for a torrent on the host, not in a document. So these rules hold at any instant:
//
//   - A torrent is written after its file is in its place.
//   - Before the content of a file changes, its torrent is removed.
//   - Before a file is removed, its torrent is.
//
// In the record of a torrent, Target is the BLAKE3 of its file, and Base a digest of its trackers
// and seeds. If only those changed, the pieces are taken from the torrent itself. A file that was
// digested by a run without torrents is read again.
//
// # How it is made
//
//	image or delta --read--> digests ------------------------> record
//	                  |
//	                  +----> SHA-1 of each piece --> held -----> torrent, when the file is in
//	                                                             its place
//
// The pieces of a file take up to 244 KiB of memory until its torrent is written.
package torrents

import (
	"fmt"
	"net/url"
	"strings"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/imagerepo/internal/torrent"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta/untrusted"
)

// Complete returns t with its seeds; where it names none, base is the seed, with which the urls
// of the mirror begin. It returns an error for torrents that clients could not find or use.
func Complete(t plan.Torrents, base string) (plan.Torrents, error) {
	if t.Of == "" {
		return plan.Torrents{}, nil
	}
	if u, err := url.Parse(base); err != nil || strings.Trim(u.Path, "/") != "" {
		return t, fmt.Errorf("clients look for torrents at the root of the host, and %s has a path: publish at the root of a host, or without torrents", base)
	}
	if len(t.Seeds) == 0 {
		if base == "" {
			return t, fmt.Errorf("the urls in the meta are relative, so torrents cannot name them: give the URL of the repository, or of a seed")
		}
		t.Seeds = []string{base}
	}
	for _, s := range t.Seeds {
		if strings.ContainsAny(s, "?#") || strings.HasSuffix(s, "/") {
			return t, fmt.Errorf("the seed %s must end without /, ? and #: the path of a file is added to it", untrusted.Quote(s))
		}
	}
	if err := torrent.CheckAddresses(t.Trackers, t.Seeds); err != nil {
		return t, err
	}
	longest := mirror.DeltaDir + "/" + strings.Repeat("n", 255)
	return t, torrent.CheckAddresses(t.Trackers, seeds(t, longest))
}

// seeds returns the addresses of the file at a path of the mirror.
func seeds(t plan.Torrents, path string) (all []string) {
	for _, s := range t.Seeds {
		all = append(all, s+"/"+path)
	}
	return all
}

// DigestOf returns a digest of the trackers and seeds of t, and of the way in which torrents are
// made: another way needs another number in it.
func DigestOf(t plan.Torrents) cksum.Digest256 {
	h := cksum.NewBLAKE3()
	fmt.Fprintf(h, "1 %q %q", t.Trackers, t.Seeds)
	return cksum.Digest256(h.Sum(nil))
}

// Decide says whether a torrent is kept or made. The torrent has a record, which may be nil, and
// a stamp in the mirror; content is the BLAKE3 of its file. read reports whether the file must be
// read for it.
func Decide(t plan.Torrents, record *state.Record, torrent state.Stamp, content cksum.Digest256) (action plan.Action, read bool) {
	if !record.Known(torrent) || record.Target != content {
		return plan.Make, true
	}
	if record.Base != DigestOf(t) {
		return plan.Make, false
	}
	return plan.Keep, false
}
