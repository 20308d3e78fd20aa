package torrent

import (
	"cmp"
	"crypto/sha1"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"puavo-image-repository/meta/untrusted"
)

// Torrent is what a torrent file says.
type Torrent struct {
	File
	Trackers []string // in the order in which they are asked
	Seeds    []string
	InfoHash [sha1.Size]byte
}

// Make returns the torrent file of a file. Its trackers are asked in this order, each when
// those before do not answer; the seeds are the addresses of the file itself. There may be
// none of either. The error names what a torrent cannot have: an empty file, addresses that
// [CheckAddresses] refuses, or pieces that are not those of the file or of [PieceLength].
func Make(f File, trackers, seeds []string) ([]byte, error) {
	if err := cmp.Or(f.check(), CheckAddresses(trackers, seeds)); err != nil {
		return nil, fmt.Errorf("the torrent of %s: %w", untrusted.Quote(f.Name), err)
	}
	top := dictionary{"info": dictionary{
		"length": f.Size, "name": f.Name, "piece length": f.PieceLength, "pieces": string(f.Pieces),
	}}
	if len(trackers) > 0 {
		top["announce"] = trackers[0]
	}
	if len(trackers) > 1 {
		tiers := list{}
		for _, t := range trackers {
			tiers = append(tiers, list{t})
		}
		top["announce-list"] = tiers
	}
	if len(seeds) > 0 {
		urls := list{}
		for _, s := range seeds {
			urls = append(urls, s)
		}
		top["url-list"] = urls
	}
	return appendValue(nil, top), nil
}

// Parse returns what a torrent file of a single file says, whoever made it. Data must be
// smaller than [MaxSize], in the one form of bencode, and as the package documentation
// says; other members than those are skipped.
func Parse(data []byte) (Torrent, error) {
	t, err := parse(data)
	if err != nil {
		return Torrent{}, fmt.Errorf("a torrent that cannot be used: %w", err)
	}
	return t, nil
}

func parse(data []byte) (t Torrent, err error) {
	if len(data) >= MaxSize {
		return t, fmt.Errorf("it has %d bytes, and must have fewer than %d", len(data), MaxSize)
	}
	v, err := decode(data)
	if err != nil {
		return t, err
	}
	top, _ := v.(dictionary)
	info, ok := top["info"].(dictionary)
	if !ok {
		return t, errors.New("it has no dictionary of the name info")
	}
	t.InfoHash = sha1.Sum(appendValue(nil, info))
	t.File = fileOf(info)
	if t.Trackers, err = trackersOf(top); err != nil {
		return t, err
	}
	if t.Seeds, err = seedsOf(top); err != nil {
		return t, err
	}
	return t, cmp.Or(t.check(), CheckAddresses(t.Trackers, t.Seeds))
}

// fileOf returns the file of an info. What is missing is zero, which no file has: as the
// length of an info of several files.
func fileOf(info dictionary) (f File) {
	f.Name, _ = info["name"].(string)
	f.Size, _ = info["length"].(int64)
	f.PieceLength, _ = info["piece length"].(int64)
	all, _ := info["pieces"].(string)
	f.Pieces = []byte(all)
	return f
}

// trackersOf returns those of announce-list, or of announce if there is no such list.
func trackersOf(top dictionary) (trackers []string, err error) {
	for _, v := range asList(top["announce-list"]) {
		if trackers, err = appendStrings(trackers, "announce-list", asList(v)); err != nil {
			return nil, err
		}
	}
	if v := top["announce"]; v != nil && len(trackers) == 0 {
		return appendStrings(nil, "announce", list{v})
	}
	return trackers, nil
}

func seedsOf(top dictionary) ([]string, error) {
	return appendStrings(nil, "url-list", asList(top["url-list"]))
}

// asList returns the list that a value is, or of which it is the only one.
func asList(v any) list {
	switch v := v.(type) {
	case nil:
		return nil
	case list:
		return v
	}
	return list{v}
}

func appendStrings(to []string, key string, values list) ([]string, error) {
	for _, v := range values {
		s, ok := v.(string)
		if !ok {
			return nil, fmt.Errorf("%s has a value that is no string", key)
		}
		to = append(to, s)
	}
	return to, nil
}

// check returns an error for a file that a torrent cannot have, or has in another way.
func (f File) check() error {
	switch {
	case f.Name == "" || f.Name == "." || f.Name == ".." || strings.Contains(f.Name, "/") || !isPlain(f.Name) || len(f.Name) > 255:
		return fmt.Errorf("%s is no name of a file", untrusted.Quote(f.Name))
	case f.Size < 1:
		return fmt.Errorf("a file of %d bytes has none", f.Size)
	case f.PieceLength < 1:
		return fmt.Errorf("pieces cannot have %d bytes", f.PieceLength)
	case pieces(f.Size, f.PieceLength) > mostPieces:
		return fmt.Errorf("pieces of %d bytes are too short for a file of %d", f.PieceLength, f.Size)
	case int64(len(f.Pieces)) != pieces(f.Size, f.PieceLength)*sha1.Size:
		return fmt.Errorf("%d bytes of SHA-1 are not those of %d pieces", len(f.Pieces), pieces(f.Size, f.PieceLength))
	}
	return nil
}

// mostAddresses bounds trackers and seeds together, in bytes. The first tracker stands twice.
const mostAddresses = 4 << 10

// CheckAddresses returns an error for addresses that a torrent cannot have: what is no http,
// https or udp URL of a tracker, or no http or https URL of a file on the web, and more than
// 4 KiB of them together.
func CheckAddresses(trackers, seeds []string) error {
	n := 0
	for _, t := range trackers {
		if err := checkURL("tracker", t, "http", "https", "udp"); err != nil {
			return err
		}
		n += len(t)
	}
	for _, s := range seeds {
		if err := checkURL("seed", s, "http", "https"); err != nil {
			return err
		}
		n += len(s)
	}
	if n > mostAddresses {
		return fmt.Errorf("trackers and seeds take %d bytes, and may take %d: give fewer", n, mostAddresses)
	}
	return nil
}

// checkURL refuses users and passwords too, which everybody could read. The error does not
// show them.
func checkURL(what, address string, schemes ...string) error {
	isSpecial := func(r rune) bool { return r <= ' ' || r > '~' }
	u, err := url.Parse(address)
	switch at := strings.LastIndex(address, "@"); {
	case at >= 0 && (err != nil || u.User != nil):
		return fmt.Errorf("the URL of a %s, …%s, has a user, whom everybody could read: give it without", what, untrusted.Show(address[at:]))
	case err != nil || u.Host == "" || !slices.Contains(schemes, u.Scheme) || strings.ContainsFunc(address, isSpecial):
		return fmt.Errorf("%s is no URL of a %s: that begins with %s, has a host, and no spaces or other characters that a URL must escape",
			untrusted.Quote(address), what, strings.Join(schemes, ":// or ")+"://")
	}
	return nil
}

// isPlain reports whether a text is UTF-8 without control characters.
func isPlain(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
