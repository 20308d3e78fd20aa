package client_test

import (
	"bytes"
	"compress/gzip"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/client"
)

// body is the fault of a file that has other bytes.
func body(change func(data []byte) []byte) fault {
	return func(w http.ResponseWriter, data []byte) { w.Write(change(slices.Clone(data))) }
}

func flip(data []byte) []byte {
	data = slices.Clone(data)
	data[len(data)/2] ^= 1
	return data
}

func half(data []byte) []byte { return data[:len(data)/2] }

func text(s string) fault { return body(func([]byte) []byte { return []byte(s) }) }

func status(code int) fault {
	return func(w http.ResponseWriter, data []byte) { w.WriteHeader(code); w.Write(data) }
}

// cut is a connection that breaks in the middle of a file.
func cut(w http.ResponseWriter, data []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.Write(data[:len(data)/2])
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

// endless sends bytes until the client has enough of them.
func endless(w http.ResponseWriter, data []byte) {
	for data = append(data, make([]byte, 1<<20)...); ; {
		if _, err := w.Write(data); err != nil {
			return
		}
	}
}

// compressed is what a site sends that compresses unasked.
func compressed(w http.ResponseWriter, data []byte) {
	w.Header().Set("Content-Encoding", "gzip")
	z := gzip.NewWriter(w)
	z.Write(data)
	z.Close()
}

func only(path string, f fault) func(string) fault {
	return func(p string) fault {
		if p == path {
			return f
		}
		return nil
	}
}

func isAny(err error, targets []error) bool {
	return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
}

// damaged are the errors of which a damaged delta gives one.
var damaged = []error{client.ErrVerify, delta.ErrFormat}

// faults are what can be wrong with a delta or an image.
var faults = []struct {
	name string
	fault
	delta []error // one of these, of a delta
	image error   // of the full image
	says  string
}{
	{"missing", status(http.StatusNotFound), []error{fs.ErrNotExist}, fs.ErrNotExist, ""},
	{"gone", status(http.StatusGone), []error{fs.ErrNotExist}, fs.ErrNotExist, ""},
	{"server fails", status(http.StatusInternalServerError), nil, nil, "500 Internal Server Error"},
	{"a part of it", status(http.StatusPartialContent), nil, nil, "a part of the file"},
	{"an error page", text("<!DOCTYPE html>"), damaged, client.ErrVerify, ""},
	{"empty", text(""), []error{client.ErrVerify}, client.ErrVerify, "has 0 bytes"},
	{"a bit flipped", body(flip), damaged, client.ErrVerify, "its BLAKE3"},
	{"magic number flipped", body(func(b []byte) []byte { b[0] ^= 1; return b }), damaged, client.ErrVerify, ""},
	{"last byte missing", body(func(b []byte) []byte { return b[:len(b)-1] }), []error{client.ErrVerify}, client.ErrVerify, "bytes, want"},
	{"half of it", body(half), []error{client.ErrVerify}, client.ErrVerify, "bytes, want"},
	{"a byte too long", body(func(b []byte) []byte { return append(b, 0) }), damaged, client.ErrVerify, "bytes"},
	{"endless", endless, damaged, client.ErrVerify, "more than its"},
	{"connection cut", cut, []error{io.ErrUnexpectedEOF}, io.ErrUnexpectedEOF, ""},
	{"compressed", compressed, nil, nil, "encoded as gzip"},
}

// newFaultySite serves the mirror that has all, and some of it wrongly.
func newFaultySite(t *testing.T, deltas, images fault) *site {
	return newSite(t, "all", func(path string) fault {
		switch filepath.Ext(path) {
		case ".rdiff":
			return deltas
		case ".img":
			return images
		}
		return nil
	})
}

// Where deltas are wrong the full image is taken, with a warning of each.
func TestDeltaFaults(t *testing.T) {
	for _, c := range faults {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, image2, image3)
			want := p.files()
			want[image4] = imageText(image4)
			result, err := p.update(newFaultySite(t, c.fault, nil).URL, "")
			if err != nil || !isFull(result.Route) {
				t.Errorf("%+v, %v", result, err)
			}
			p.want(want)
			for _, base := range []string{image2, image3} {
				if !strings.Contains(p.log.String(), from(base)) {
					t.Errorf("no warning of %s: %s", from(base), &p.log)
				}
			}
		})
	}
}

// A full image that is wrong does not get its name.
func TestImageFaults(t *testing.T) {
	for _, c := range faults {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, other)
			before := p.files()
			_, err := p.update(newFaultySite(t, nil, c.fault).URL, image4)
			if err == nil || c.image != nil && !errors.Is(err, c.image) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), image4) {
				t.Errorf("%v, want %v that says %q", err, c.image, c.says)
			}
			p.wantImages(before)
		})
	}
}

// Where all ways fail the error tells why each did, and all is as it was.
func TestAllFaults(t *testing.T) {
	for _, c := range faults {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, image2, image3)
			before := p.files()
			_, err := p.update(newFaultySite(t, c.fault, status(http.StatusTeapot)).URL, "")
			if err == nil || c.delta != nil && !isAny(err, c.delta) {
				t.Fatalf("%v, want one of %v", err, c.delta)
			}
			if errors.Is(err, io.ErrUnexpectedEOF) && isAny(err, damaged) {
				t.Errorf("a cut connection is taken for a damaged delta: %v", err)
			}
			for _, says := range []string{from(image2), from(image3), fromFull, "418"} {
				if !strings.Contains(err.Error(), says) {
					t.Errorf("%v does not tell of %s", err, says)
				}
			}
			p.want(before)
		})
	}
}

// One delta that is wrong leads to the next, not at once to the full image.
func TestNextDelta(t *testing.T) {
	p := newPlace(t, image2, image3)
	result, err := p.update(newSite(t, "all", only(deltaFile(image3, image4), body(flip))).URL, "")
	if err != nil || result.Route.String() != from(image2) {
		t.Errorf("%+v, %v", result, err)
	}
}

// A document that is wrong is an error that names it, and nothing else is
// fetched.
func TestDocumentFaults(t *testing.T) {
	replace := func(old, new string) fault {
		return body(func(b []byte) []byte {
			if !bytes.Contains(b, []byte(old)) {
				t.Errorf("no %s in the document", old)
			}
			return bytes.ReplaceAll(b, []byte(old), []byte(new))
		})
	}
	const index = "index.json"
	for _, c := range []struct {
		name, path string
		fault
		names, says string
	}{
		{"empty", series, text(""), series, "JSON"},
		{"no JSON", series, text("<!DOCTYPE html>"), series, "line 1"},
		{"other JSON", series, text(`{"a": 1}`), series, "line 1"},
		{"no series", series, text(`{}`), series, "0 series"},
		{"no images", series, text(`{"a": {"images": []}}`), image2, "is not in the series a"},
		{"name that leads out", series, replace(`"filename":"`+image4, `"filename":"../`+image4), series, "not an image's name"},
		{"delta that leads out", series, replace(`"filename":"puavo-os-amxa-buster-2021`, `"filename":"../puavo-os-amxa-buster-2021`), series, "../"},
		{"no digest", series, replace(`"sha512"`, `"sha511"`), series, "no sha512"},
		{"size below 0", series, replace(`"size":`, `"size":-`), series, "negative"},
		{"too large", series, endless, series, "more than"},
		{"half of it", series, body(half), series, "JSON"},
		{"connection cut", series, cut, series, "unexpected EOF"},
		{"compressed", series, compressed, series, "encoded as gzip"},
		{"server fails", series, status(http.StatusInternalServerError), series, "500"},
		{"index no JSON", index, text("<!DOCTYPE html>"), index, "line 1"},
		{"index that leads out", index, replace(`meta/release`, `../release`), index, "../release.json"},
		{"index with an odd name", index, replace(`"release"`, `"../release"`), index, "../release"},
		{"index server fails", index, status(http.StatusBadGateway), index, "502"},
		{"index of what is missing", index, replace("release", "removed"), "meta/removed.json", "file does not exist"},
	} {
		t.Run(c.name, func(t *testing.T) {
			mirror := "all"
			if c.path == index {
				mirror = "named"
			}
			p := newPlace(t, image2)
			before := p.files()
			s := newSite(t, mirror, only(c.path, c.fault))
			_, err := p.update(s.URL, "")
			if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), c.names) {
				t.Errorf("%v, want one that names %s and says %q", err, c.names, c.says)
			}
			p.want(before)
			for _, path := range s.asked() {
				if strings.HasSuffix(path, ".img") || strings.HasSuffix(path, ".rdiff") {
					t.Errorf("%s was fetched", path)
				}
			}
		})
	}
}

// What cannot be opened is an error that says what it is.
func TestOpenFails(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	untrusted := httptest.NewUnstartedServer(nil)
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	defer untrusted.Close()
	file := filepath.Join(t.TempDir(), "file")
	os.WriteFile(file, nil, 0o666)
	all := access["directory"](t, "all")
	for _, c := range []struct {
		name, mirror, dir string
		err               error
		says              string
	}{
		{"no images directory", all, "/none", fs.ErrNotExist, "/none"},
		{"the images directory is a file", all, file, nil, "not a directory"},
		{"no mirror", "/none", "", fs.ErrNotExist, "/none"},
		{"the mirror is a file", file, "", nil, "not a directory"},
		{"no mirror at a file URL", "file:///none", "", fs.ErrNotExist, "/none"},
		{"a file URL of another host", "file://host" + all, "", nil, "want a directory or"},
		{"a directory that is no mirror", t.TempDir(), "", fs.ErrNotExist, "meta/"},
		{"another scheme", "rsync://host/mirror", "", nil, "want a directory or"},
		{"no host", "https:///mirror", "", nil, "want a directory or"},
		{"no URL", "https://ho st/", "", nil, "not the URL"},
		{"a query", "https://host/?x", "", nil, "not the URL"},
		{"an empty query", "https://host/?", "", nil, "not the URL"},
		{"a fragment", "file:///mirror#x", "", nil, "not the URL"},
		{"no server", closed.URL, "", syscall.ECONNREFUSED, closed.URL},
		{"a certificate of no one", untrusted.URL, "", nil, "certificate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, image3)
			before := p.files()
			o := p.options(c.mirror, "")
			if c.dir != "" {
				o.Dir = c.dir
			}
			_, err := client.Update(t.Context(), o)
			if err == nil || c.err != nil && !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %v that says %q", err, c.err, c.says)
			}
			p.want(before)
		})
	}
}

// Redirects are followed, but neither for ever nor out of https.
func TestRedirects(t *testing.T) {
	plain := newSite(t, "all", nil)
	secure := httptest.NewTLSServer(plain.Config.Handler)
	defer secure.Close()
	trustCertificate(t, secure)
	redirect := func(start func(http.Handler) *httptest.Server, to string) string {
		s := start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if to == "" {
				to = "http://" + r.Host
			}
			http.Redirect(w, r, to+r.URL.Path, http.StatusFound)
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	for _, c := range []struct{ name, mirror, says string }{
		{"https", secure.URL, ""},
		{"http to http", redirect(httptest.NewServer, plain.URL), ""},
		{"http to https", redirect(httptest.NewServer, secure.URL), ""},
		{"https to https", redirect(httptest.NewTLSServer, secure.URL), ""},
		{"https to http", redirect(httptest.NewTLSServer, plain.URL), "a redirect from https to http"},
		{"https to https to http", redirect(httptest.NewTLSServer, redirect(httptest.NewTLSServer, plain.URL)), "a redirect from https to http"},
		{"to itself", redirect(httptest.NewServer, ""), "stopped after 10 redirects"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, image3)
			want := p.files()
			if c.says == "" {
				want[image4] = imageText(image4)
			}
			_, err := p.update(c.mirror, "")
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %q", err, c.says)
			}
			p.want(want)
		})
	}
}

// trustCertificate makes the client trust the certificate of a server.
func trustCertificate(t *testing.T, s *httptest.Server) {
	old := http.DefaultTransport
	t.Cleanup(func() { http.DefaultTransport = old })
	trusting := old.(*http.Transport).Clone()
	trusting.TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	trusting.TLSClientConfig.RootCAs = x509.NewCertPool()
	trusting.TLSClientConfig.RootCAs.AddCert(s.Certificate())
	http.DefaultTransport = trusting
}
