package client_test

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/client"
)

const (
	middling1 = "puavo-os-middling-buster-2022-03-01-000000-amd64.img"
	middling2 = "puavo-os-middling-buster-2022-03-02-000000-amd64.img"
)

// middling returns images of some MiB, with a delta of some MiB as well.
func middling() map[string][]byte {
	data := random(8 << 20)
	return map[string][]byte{
		middling1: data[:1<<20],
		middling2: slices.Concat(data[2<<20:7<<19+1], data[:1<<19], data[4<<20:5<<20]),
	}
}

// rewritten answers with another body, of which it tells the length or not.
func rewritten(told bool, change func(data []byte) []byte) spoil {
	return func(x *exchange) {
		data := change(must(io.ReadAll(x.answer.Body)))
		if x.answer.Header.Del("Content-Length"); told {
			x.answer.Header.Set("Content-Length", strconv.Itoa(len(data)))
		}
		x.head()
		x.Write(data)
	}
}

func longer(data []byte) []byte { return append(data, "more"...) }
func same(data []byte) []byte   { return data }

// zipped answers as if the client had asked for gzip.
func zipped(x *exchange) {
	x.answer.Header.Del("Content-Length")
	x.answer.Header.Set("Content-Encoding", "gzip")
	x.head()
	z := gzip.NewWriter(x)
	io.Copy(z, x.answer.Body)
	z.Close()
}

// whole answers with all of the file.
func whole(x *exchange) {
	x.ask("")
	x.pass()
}

// shifted answers with a range that begins so many bytes after the one asked for,
// and tells so.
func shifted(by int64) spoil {
	return func(x *exchange) {
		x.ask(fmt.Sprintf("bytes=%d-", x.start()+by))
		x.pass()
	}
}

// start is where the range that is asked for begins.
func (x *exchange) start() (start int64) {
	fmt.Sscanf(x.r.Header.Get("Range"), "bytes=%d-", &start)
	return start
}

// lie answers with bytes from another place than it tells.
func lie(x *exchange) {
	told := x.answer.Header.Clone()
	x.ask(fmt.Sprintf("bytes=%d-", x.start()-1))
	x.answer.Header, x.answer.Body = told, io.NopCloser(io.LimitReader(x.answer.Body, x.answer.ContentLength-1))
	x.pass()
}

// total passes a part of the file, but tells of another size of the whole.
func total(change func(size string) string) spoil {
	return func(x *exchange) {
		span, size, _ := strings.Cut(x.answer.Header.Get("Content-Range"), "/")
		header("Content-Range", span+"/"+change(size))(x)
	}
}

// unnamed passes the answer without what tells one content from another, and
// cuts it.
func unnamed(n int64, fields ...string) spoil {
	return func(x *exchange) {
		for _, f := range fields {
			x.answer.Header.Del(f)
		}
		cutAfter(n)(x)
	}
}

// renamed is cut, and comes from a server that has the file with another ETag and date.
func renamed(n int) spoil {
	return func(x *exchange) {
		x.answer.Header.Set("ETag", fmt.Sprintf(`"%d"`, n))
		x.answer.Header.Set("Last-Modified", time.Unix(int64(n)*1e9, 0).UTC().Format(http.TimeFormat))
		cutAfter(halfway / 2)(x)
	}
}

// spoiled are what can be wrong with a network, and what comes of it.
var spoiled = []struct {
	name string
	spoil
	delta string // "": the delta does it; else what the warning of it says, and the full image is taken
	image string // "": the full image is made; else what the error says
	twice bool   // more comes than the file has, for the server does not do what it was asked
}{
	{"nothing wrong", first(), "", "", false},
	{"cut amid the header", first(cutInHead), "", "", false},
	{"cut before the body", first(cutAfter(0)), "", "", false},
	{"cut", first(cutAfter(halfway)), "", "", false},
	{"cut before the last byte", first(func(x *exchange) { cutAfter(x.answer.ContentLength - 1)(x) }), "", "", false},
	{"cut and of unknown length", first(func(x *exchange) { x.answer.Header.Del("Content-Length"); cutAfter(halfway)(x) }), "", "", false},
	{"cut often", first(cutAfter(halfway), cutInHead, cutAfter(halfway/2), cutAfter(0), cutAfter(halfway/3)), "", "", false},
	{"cut for ever", cutAfter(0), "given up after 3 attempts", "given up after 3 attempts", false},
	{"reset before the header", first((*exchange).reset), "", "", false},
	{"reset", first(resetAfter(halfway)), "", "", false},
	{"reset for ever", (*exchange).reset, "connection reset", "connection reset", false},
	{"slow header", first(slowHead), "", "", false},
	{"stalled before the body", first(stallAfter(0)), "", "", false},
	{"stalled", first(stallAfter(halfway)), "", "", false},
	{"stalled twice", first(stallAfter(halfway), stallAfter(halfway/2)), "", "", false},
	{"hardly any data", first(drip(halfway)), "", "", false},

	{"a server without ranges", first(cutAfter(halfway), whole), "", "", true},
	{"a server without ranges, cut again", first(cutAfter(halfway), func(x *exchange) { x.ask(""); cutAfter(halfway / 2)(x) }, whole), "", "", true},
	{"a part unasked", first(shifted(5)), "", "", true},
	{"a range that begins later", first(cutAfter(halfway), shifted(1000)), "", "", true},
	{"a range that begins earlier", first(cutAfter(halfway), shifted(-1000)), "", "", true},
	{"a range of other bytes than it tells", first(cutAfter(halfway), lie), "", "", true},
	{"a range of a larger file", first(cutAfter(halfway), total(func(s string) string { return "1" + s })), "", "", true},
	{"a range of a file of another size", first(cutAfter(halfway), otherSize), "", "", true},
	{"a range of a file of unknown size", first(cutAfter(halfway), total(func(string) string { return "*" })), "", "", false},
	{"a range without Content-Range", first(cutAfter(halfway), header("Content-Range", "")), "", "", true},
	{"Content-Range: garbage", first(cutAfter(halfway), header("Content-Range", "bytes x-y/z")), "", "", true},
	{"Content-Range: backwards", first(cutAfter(halfway), header("Content-Range", "bytes 5-3/9")), "", "", true},
	{"Content-Range: no bytes", first(cutAfter(halfway), header("Content-Range", "lines 1-2/3")), "", "", true},
	{"Content-Range: unsatisfied", first(cutAfter(halfway), header("Content-Range", "bytes */9")), "", "", true},
	{"Content-Range: too large a number", first(cutAfter(halfway), header("Content-Range", "bytes 99999999999999999999-99999999999999999999/99999999999999999999")), "", "", true},
	{"another ETag and date", first(renamed(1), renamed(2), renamed(3)), "", "", false},
	{"no ETag", first(unnamed(halfway, "ETag"), header("ETag", "")), "", "", false},
	{"neither ETag nor date", first(unnamed(halfway, "ETag", "Last-Modified"), header("ETag", "", "Last-Modified", "")), "", "", false},

	{"503", first(refuse(503)), "", "", false},
	{"503 with Retry-After in seconds", first(refuse(503, "Retry-After", "1")), "", "", false},
	{"503 with Retry-After of a year", first(refuse(503, "Retry-After", "31536000")), "", "", false},
	{"503 with Retry-After as a date", first(refuse(503, "Retry-After", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))), "", "", false},
	{"503 with Retry-After in the past", first(refuse(503, "Retry-After", "Thu, 20 Jan 2022 17:32:48 GMT")), "", "", false},
	{"503 with Retry-After of garbage", first(refuse(503, "Retry-After", "soon")), "", "", false},
	{"503 for ever", refuse(503, "Retry-After", "0"), "503", "503", false},
	{"429", first(refuse(429, "Retry-After", "0")), "", "", false},
	{"429 for ever", refuse(429), "429", "429", false},
	{"cut and 503", first(cutAfter(halfway), refuse(503, "Retry-After", "0")), "", "", false},
	{"cut and 429", first(cutAfter(halfway), refuse(429)), "", "", false},
	{"404", refuse(404), "file does not exist", "file does not exist", false},
	{"403", refuse(403), "403", "403", false},
	{"cut and 404", first(cutAfter(halfway), refuse(404)), "file does not exist", "file does not exist", false},
	{"cut and 416", first(cutAfter(halfway), refuse(416)), "", "", true},

	{"shorter", rewritten(true, half), "bytes, want", "bytes, want", false},
	{"shorter, of unknown length", rewritten(false, half), "bytes, want", "bytes, want", false},
	{"longer", rewritten(true, longer), "bytes, want", "bytes, want", true},
	{"longer, of unknown length", rewritten(false, longer), "more than its", "more than its", true},
	{"of unknown length", rewritten(false, same), "", "", false},
	{"a flipped bit for ever", rewritten(true, flip), "its BLAKE3", "its BLAKE3", true},
	{"a flipped bit", first(rewritten(true, flip)), "", "", true},
	{"a flipped bit after a cut", first(cutAfter(halfway), rewritten(true, flip)), "", "", true},
	{"gzip", zipped, "encoded as gzip", "encoded as gzip", true},
	{"gzip after a cut", first(cutAfter(halfway), zipped), "encoded as gzip", "encoded as gzip", true},
}

// halfway is about a half of what is fetched.
const halfway = 5 << 18

// otherSize answers with a range of a file of one byte more, as it would be.
func otherSize(x *exchange) {
	var size int64
	if _, err := fmt.Sscanf(x.answer.Header.Get("Content-Range"), "bytes "+strconv.FormatInt(x.start(), 10)+"-%d/", &size); err != nil {
		panic(err)
	}
	header("Content-Range", fmt.Sprintf("bytes %d-%d/%d", x.start(), size+1, size+2), "Content-Length", strconv.FormatInt(size+2-x.start(), 10))(x)
}

// Whatever is wrong, the image is right in the end or there is an error that says
// why. No byte comes twice but where the server cannot do otherwise.
func TestSpoiled(t *testing.T) {
	t.Parallel()
	images := middling()
	n := newNginx(t, newMirror(t, images))
	for _, c := range spoiled {
		t.Run(c.name+", delta", func(t *testing.T) {
			t.Parallel()
			file := deltaFile(middling1, middling2)
			x := newProxy(t, n, only1(file, c.spoil))
			p := newPlace(t)
			p.write(middling1, images[middling1])
			if _, err := client.Update(t.Context(), hasty(p, x.URL)); err != nil {
				t.Error(err)
			}
			p.want(asFiles(images))
			if by := x.requests(middling2) == 0; by != (c.delta == "") || !strings.Contains(p.log.String(), c.delta) {
				t.Errorf("made by the delta: %t, want a warning of it that says %q: %s", by, c.delta, &p.log)
			}
			if !c.twice {
				x.wantOnce(file, oneBuffer)
			}
		})
		t.Run(c.name+", full image", func(t *testing.T) {
			t.Parallel()
			x := newProxy(t, n, c.spoil)
			p := newPlace(t)
			_, err := client.Update(t.Context(), hasty(p, x.URL))
			if (err == nil) != (c.image == "") || err != nil && (!strings.Contains(err.Error(), c.image) || !strings.Contains(err.Error(), middling2)) {
				t.Errorf("%v, want %q", err, c.image)
			}
			if !c.twice {
				x.wantOnce(middling2, oneBuffer)
			}
			if err != nil {
				p.wantResumable(middling2)
				if _, err = client.Update(t.Context(), hasty(p, n.url)); err != nil {
					t.Errorf("again: %v", err)
				}
			}
			p.want(map[string]string{middling2: string(images[middling2])})
		})
	}
}

// hasty are the options of an update that does not wait for long.
func hasty(p *place, mirror string) client.Options {
	o := p.options(mirror, middling2)
	o.Patience.Longest = 20 * time.Millisecond
	o.Patience.Stall = 2 * time.Second
	return o
}

func only1(path string, s spoil) spoil {
	return func(x *exchange) {
		if x.path != path {
			x.pass()
			return
		}
		s(x)
	}
}

func asFiles(images map[string][]byte) map[string]string {
	files := make(map[string]string)
	for f, data := range images {
		files[f] = string(data)
	}
	return files
}

// wantResumable checks that of an image there is nothing, or what another run can
// go on with.
func (p *place) wantResumable(image string) {
	p.t.Helper()
	files := p.files()
	_, named := files[image]
	_, tmp := files[image+".tmp"]
	_, journal := files[image+".tmp.journal"]
	_, new := files[image+".tmp.journal.new"]
	if named || tmp != journal || new {
		p.t.Errorf("left: the image %t, a part of it %t, its journal %t, a new one %t", named, tmp, journal, new)
	}
}
