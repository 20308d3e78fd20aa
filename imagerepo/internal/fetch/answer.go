package fetch

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
)

// accept looks at an answer, and leaves its body where reading is to go on.
func (b *Body) accept(resp *http.Response) error {
	if e := resp.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return b.failed(fmt.Errorf("the server sends it encoded as %s, though it was not asked to", e))
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return b.acceptWhole(resp)
	case http.StatusPartialContent:
		return b.acceptRange(resp)
	case http.StatusRequestedRangeNotSatisfiable:
		return b.failed(ErrChanged)
	case http.StatusNotFound, http.StatusGone:
		return b.failed(fs.ErrNotExist)
	case http.StatusForbidden: // so say some hosts of what is not there
		return b.failed(fmt.Errorf("%s, or %w", resp.Status, fs.ErrNotExist))
	case http.StatusTooManyRequests:
		return b.failed(givenUp(errors.New(resp.Status)))
	}
	err := errors.New(resp.Status)
	if resp.StatusCode >= http.StatusInternalServerError {
		err = givenUp(err)
	}
	return b.failed(err)
}

// givenUp makes the error of a request that was tried again in vain one of
// ErrGivenUp.
func givenUp(err error) error {
	if errors.Is(err, errRedirect) {
		return err // it was not
	}
	return fmt.Errorf("%w: %w", ErrGivenUp, err)
}

// acceptWhole takes an answer with the whole file.
func (b *Body) acceptWhole(resp *http.Response) error {
	b.skip = b.pos
	return b.identify(resp, resp.ContentLength)
}

// acceptRange takes an answer with a part of the file. If it is not the one that
// was asked for, the whole file is asked for.
func (b *Body) acceptRange(resp *http.Response) error {
	start, size, ok := contentRange(resp.Header.Get("Content-Range"))
	if ok && start == b.pos {
		b.skip = 0
		return b.identify(resp, size)
	}
	if b.whole {
		return b.failed(errors.New("the server sends a part of the file, though it was not asked to"))
	}
	b.mirror.log.Info("the server sends another part than asked for, fetching the whole file", "file", b.name, "range", resp.Header.Get("Content-Range"))
	b.drop()
	b.whole = true
	return b.connect()
}

// identify compares what an answer tells of the file with what is known of it.
func (b *Body) identify(resp *http.Response, size int64) error {
	version := versionOf(resp.Header)
	switch {
	case b.pos > 0 && b.version != "" && version != "" && version != b.version,
		b.pos > 0 && b.size >= 0 && size >= 0 && size != b.size:
		return b.failed(ErrChanged)
	case b.pos == 0 || b.version == "":
		b.version = version
	}
	if size >= 0 {
		b.size = size
	}
	return nil
}

// versionOf returns what identifies a content: a strong ETag, or else the date of
// the last change.
func versionOf(h http.Header) string {
	if tag := h.Get("ETag"); strings.HasPrefix(tag, `"`) {
		return tag
	}
	return h.Get("Last-Modified")
}

// contentRange parses the header of that name: "bytes 0-9/10". The size is -1
// where it is not told.
func contentRange(s string) (start, size int64, ok bool) {
	s, ok = strings.CutPrefix(s, "bytes ")
	span, total, found := strings.Cut(s, "/")
	from, to, dash := strings.Cut(span, "-")
	if !ok || !found || !dash {
		return 0, 0, false
	}
	start, err := strconv.ParseInt(from, 10, 64)
	if err != nil || start < 0 {
		return 0, 0, false
	}
	if total == "*" {
		return start, -1, true
	}
	end, endErr := strconv.ParseInt(to, 10, 64)
	size, err = strconv.ParseInt(total, 10, 64)
	// What ends before the file does is no use: the rest was asked for.
	return start, size, endErr == nil && err == nil && end == size-1 && start <= end
}
