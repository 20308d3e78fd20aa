package torrent_test

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"puavo-image-repository/imagerepo/internal/torrent"
)

const (
	tracker = "http://tracker.example.org/announce"
	backup  = "udp://tracker.example.net:6969"
	seed    = "https://images.example.org/rdiffs/a.rdiff"
	other   = "https://mirror.example.org/rdiffs/a.rdiff"
)

// abc is a file of three bytes, in one piece.
var abc = made("abc", []byte("abc"))

// pieceOfABC is the SHA-1 of "abc", from FIPS 180-4.
var pieceOfABC = func() string {
	b, _ := hex.DecodeString("a9993e364706816aba3e25717850c26c9cd0d89d")
	return string(b)
}()

// info is the info of abc, and top what follows it in a torrent.
var info = "4:infod6:lengthi3e4:name3:abc12:piece lengthi32768e6:pieces20:" + pieceOfABC + "e"

func TestMake(t *testing.T) {
	for _, test := range []struct {
		trackers, seeds []string
		want            string
	}{
		{nil, nil, "d" + info + "e"},
		{[]string{tracker}, nil, "d8:announce35:" + tracker + info + "e"},
		{nil, []string{seed}, "d" + info + "8:url-listl41:" + seed + "ee"},
		{
			[]string{tracker, backup},
			[]string{seed, other},
			"d8:announce35:" + tracker + "13:announce-listll35:" + tracker + "el30:" + backup + "ee" + info + "8:url-listl41:" + seed + "41:" + other + "ee",
		},
	} {
		got, err := torrent.Make(abc, test.trackers, test.seeds)
		if err != nil || string(got) != test.want {
			t.Errorf("got %q, %v\nwant %q", got, err, test.want)
			continue
		}
		parsed, err := torrent.Parse(got)
		want := torrent.Torrent{File: abc, Trackers: test.trackers, Seeds: test.seeds, InfoHash: sha1.Sum([]byte(info[len("4:info"):]))}
		if err != nil || !reflect.DeepEqual(parsed, want) {
			t.Errorf("parsed: %+v, %v\nwant %+v", parsed, err, want)
		}
	}
}

func TestMakeRefuses(t *testing.T) {
	with := func(change func(*torrent.File)) torrent.File {
		f := abc
		change(&f)
		return f
	}
	named := func(name string) torrent.File { return with(func(f *torrent.File) { f.Name = name }) }
	for _, test := range []struct {
		name            string
		file            torrent.File
		trackers, seeds []string
		want            string // of the error
	}{
		{"no name", named(""), nil, nil, "no name of a file"},
		{"a directory", named(".."), nil, nil, "no name of a file"},
		{"this directory", named("."), nil, nil, "no name of a file"},
		{"in a directory", named("a/b"), nil, nil, "no name of a file"},
		{"a control character", named("a\nb"), nil, nil, `"a\nb" is no name of a file`},
		{"no UTF-8", named("\xff"), nil, nil, "no name of a file"},
		{"a long name", named(strings.Repeat("a", 256)), nil, nil, "no name of a file"},
		{"empty", made("empty", nil), nil, nil, "a file of 0 bytes has none"},
		{"no length of pieces", with(func(f *torrent.File) { f.PieceLength = 0 }), nil, nil, "pieces cannot have 0 bytes"},
		{"too many pieces", with(func(f *torrent.File) { f.Size = 13 << 30; f.PieceLength = 1 << 20 }), nil, nil, "too short"},
		{"a piece too many", with(func(f *torrent.File) { f.Pieces = make([]byte, 40) }), nil, nil, "not those of 1 pieces"},
		{"a piece too few", with(func(f *torrent.File) { f.Pieces = nil }), nil, nil, "not those of 1 pieces"},
		{"a relative seed", abc, nil, []string{"rdiffs/a.rdiff"}, "no URL of a seed"},
		{"an empty seed", abc, nil, []string{""}, "no URL of a seed"},
		{"a seed by udp", abc, nil, []string{backup}, "http:// or https://"},
		{"a tracker without a host", abc, []string{"http:///announce"}, nil, "no URL of a tracker"},
		{"a tracker by ftp", abc, []string{"ftp://example.org"}, nil, "no URL of a tracker"},
		{"spaces", abc, []string{"http://example.org/a b"}, nil, "no URL of a tracker"},
		{"more than ASCII", abc, []string{"http://example.org/ä"}, nil, "no URL of a tracker"},
		{"a newline", abc, []string{"http://example.org/\n"}, nil, "no URL of a tracker"},
		{"a password", abc, []string{"http://me:secret@example.org/"}, nil, "…@example.org/, has a user"},
		{"a password in what is no URL", abc, []string{"http://me:secret%@example.org/"}, nil, "…@example.org/, has a user"},
		{"a long seed", abc, nil, []string{seed, seed + strings.Repeat("a", 4<<10-2*len(seed)+1)}, "give fewer"},
		{"a long tracker", abc, []string{tracker, tracker + strings.Repeat("a", 4<<10-2*len(tracker)+1)}, nil, "give fewer"},
	} {
		got, err := torrent.Make(test.file, test.trackers, test.seeds)
		if got != nil || err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %q, %v; want %q", test.name, got, err, test.want)
		}
	}
	if err := torrent.CheckAddresses([]string{"http://example.org/user@passkey/announce"}, nil); err != nil {
		t.Error(err)
	}
}

// Members that are unknown are skipped; those in info change the info hash.
func TestParse(t *testing.T) {
	const key = "4:info"
	private := strings.TrimSuffix(info, "e") + "7:privatei1ee"
	for _, test := range []struct {
		name, before, info, after string
		trackers, seeds           []string
	}{
		{"of mktorrent", "8:announce35:" + tracker + "10:created by13:mktorrent 1.113:creation datei1600000000e", info, "", []string{tracker}, nil},
		{"a list of trackers first", "8:announce30:" + backup + "13:announce-listll35:" + tracker + "ee", info, "", []string{tracker}, nil},
		{"a tier of several", "13:announce-listll35:" + tracker + "30:" + backup + "ee", info, "", []string{tracker, backup}, nil},
		{"an empty list", "8:announce30:" + backup + "13:announce-listle", info, "", []string{backup}, nil},
		{"one seed", "", info, "8:url-list41:" + seed, nil, []string{seed}},
		{"a member in info", "", private, "1:zde", nil, nil},
	} {
		got, err := torrent.Parse([]byte("d" + test.before + test.info + test.after + "e"))
		want := torrent.Torrent{File: abc, Trackers: test.trackers, Seeds: test.seeds, InfoHash: sha1.Sum([]byte(test.info[len(key):]))}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v\nwant %+v", test.name, got, err, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	const form = "not in the one form"
	deep := func(n int) string { return strings.Repeat("l", n) + strings.Repeat("e", n) }
	sized := func(n int) string { // of n bytes
		n -= len("d1:a000000:" + info + "e")
		return fmt.Sprintf("d1:a%06d:%s%se", n, strings.Repeat("a", n), info)
	}
	for _, test := range []struct{ name, data, want string }{
		{"nothing", "", form},
		{"text", "hello", form},
		{"cut", "d" + info, form},
		{"cut in a string", "d" + info[:40], form},
		{"more after it", "d" + info + "ee", form},
		{"keys in the wrong order", "d" + info + "1:ai1ee", form},
		{"a key twice", "d1:ai1e1:ai1e" + info + "e", form},
		{"a key that is no string", "di1ei1e" + info + "e", form},
		{"a key without a value", "d" + info + "1:ze", form},
		{"a leading zero", "d1:ai01e" + info + "e", form},
		{"a minus before zero", "d1:ai-0e" + info + "e", form},
		{"a plus", "d1:ai+1e" + info + "e", form},
		{"no digits", "d1:aie" + info + "e", form},
		{"a large integer", "d1:ai9223372036854775808e" + info + "e", form},
		{"an integer without end", "d1:ai" + strings.Repeat("1", 1000), form},
		{"a leading zero of a string", "d01:ai1e" + info + "e", form},
		{"a string of a negative length", "d-1:ai1e" + info + "e", form},
		{"a string that is too long", "d9223372036854775807:a", form},
		{"a list without end", "d1:al", form},
		{"deep", deep(100_000), form},
		{"a little too deep", "d1:a" + deep(8) + info + "e", form},
		{"a byte too large", sized(torrent.MaxSize), "must have fewer"},
		{"a list", "le", "no dictionary of the name info"},
		{"no info", "de", "no dictionary of the name info"},
		{"info is a list", "d4:infolee", "no dictionary of the name info"},
		{"several files", "d4:infod5:filesle4:name3:abc12:piece lengthi32768e6:pieces20:" + pieceOfABC + "ee", "a file of 0 bytes"},
		{"no name", "d4:infod6:lengthi3e12:piece lengthi32768e6:pieces20:" + pieceOfABC + "ee", "no name"},
		{"a negative length", "d4:infod6:lengthi-3e4:name3:abc12:piece lengthi32768e6:pieces20:" + pieceOfABC + "ee", "a file of -3 bytes"},
		{"a text as length", "d4:infod6:length1:34:name3:abc12:piece lengthi32768e6:pieces20:" + pieceOfABC + "ee", "a file of 0 bytes"},
		{"a name that leads away", "d4:infod6:lengthi3e4:name6:../abc12:piece lengthi32768e6:pieces20:" + pieceOfABC + "ee", "no name"},
		{"half a piece", "d4:infod6:lengthi3e4:name3:abc12:piece lengthi32768e6:pieces10:0123456789ee", "not those of 1 pieces"},
		{"a tracker that is a number", "d8:announcei1e" + info + "e", "announce has a value"},
		{"a tier of numbers", "d13:announce-listli1ee" + info + "e", "announce-list has a value"},
		{"a seed that is a list", "d" + info + "8:url-listlleee", "url-list has a value"},
		{"an empty seed", "d" + info + "8:url-list0:e", "no URL of a seed"},
	} {
		got, err := torrent.Parse([]byte(test.data))
		if err == nil || !strings.Contains(err.Error(), test.want) || !reflect.DeepEqual(got, torrent.Torrent{}) {
			t.Errorf("%s: %+v, %v; want %q", test.name, got, err, test.want)
		}
	}
	for name, data := range map[string]string{"nearly too large": sized(torrent.MaxSize - 1), "nearly too deep": "d1:a" + deep(7) + info + "e"} {
		if _, err := torrent.Parse([]byte(data)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What parses can be made again, and says the same then.
func FuzzParse(f *testing.F) {
	f.Add([]byte("d" + info + "e"))
	f.Add([]byte("d8:announce35:" + tracker + "10:created by13:mktorrent 1.1" + info + "8:url-list41:" + seed + "e"))
	f.Add([]byte("d8:announce35:" + tracker + "13:announce-listll35:" + tracker + "el30:" + backup + "ee" + info + "8:url-listl41:" + seed + "41:" + other + "ee"))
	f.Add([]byte("d4:infod6:lengthi65537e4:name1:a12:piece lengthi65536e6:pieces40:" + strings.Repeat("p", 40) + "ee"))
	f.Add([]byte("ld1:al0:i-1eeee"))
	f.Fuzz(func(t *testing.T, data []byte) {
		parsed, err := torrent.Parse(data)
		if err != nil {
			return
		}
		again, err := torrent.Make(parsed.File, parsed.Trackers, parsed.Seeds)
		if err != nil {
			t.Fatal(err)
		}
		twice, err := torrent.Parse(again)
		if err != nil {
			t.Fatalf("%q: %v", again, err)
		}
		if bytes.Equal(again, data) && twice.InfoHash != parsed.InfoHash {
			t.Errorf("two info hashes: %x, %x", parsed.InfoHash, twice.InfoHash)
		}
		twice.InfoHash = parsed.InfoHash // other members in info change it
		if !reflect.DeepEqual(twice, parsed) {
			t.Errorf("%+v is made as %+v", parsed, twice)
		}
	})
}
