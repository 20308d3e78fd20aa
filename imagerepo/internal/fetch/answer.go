package fetch

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"puavo-image-repository/meta/untrusted"
)

// accept checks an answer, and leaves its body where reading continues.
func (d *download) accept(resp *http.Response) error {
	if e := resp.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return d.failed(fmt.Errorf("the server sends it encoded as %s, unasked", e))
	}
	switch resp.StatusCode {
	case http.StatusOK:
		d.conn.skip = d.pos
		return d.identify(resp, resp.ContentLength)
	case http.StatusPartialContent:
		return d.acceptRange(resp)
	}
	return d.refused(resp)
}

// acceptRange accepts an answer with a part of the file. If it is not the part that
// was asked for, it asks for the whole file.
func (d *download) acceptRange(resp *http.Response) error {
	start, size, ok := contentRange(resp.Header.Get("Content-Range"))
	if ok && start == d.pos {
		return d.identify(resp, size)
	}
	if d.whole {
		return d.failed(errors.New("the server sends a part of the file, unasked"))
	}
	d.mirror.log.Info("the server sends a part that was not requested; fetching the whole file", "file", d.name, "range", untrusted.Show(resp.Header.Get("Content-Range")))
	d.disconnect()
	d.whole = true
	return d.request()
}

// identify checks that the answer is of the file that was asked for, or read so far.
// size is the one that the server says, -1 if it does not.
func (d *download) identify(resp *http.Response, size int64) error {
	validator := validatorOf(resp.Header)
	switch {
	case d.want > 0 && size >= 0 && size != d.want:
		return d.anotherFile(wrongSize(size, d.want))
	case d.want > 0 || d.pos == 0:
	case d.size >= 0 && size >= 0 && size != d.size:
		return d.failed(wrongSize(size, d.size))
	case d.validator != "" && validator != "" && validator != d.validator:
		return d.failed(ErrChanged)
	}
	if size >= 0 {
		d.size = size
	}
	if d.want == 0 && (d.pos == 0 || d.validator == "") {
		d.validator = validator
	}
	return nil
}

// anotherFile asks again, past caches that hold an old file, or else returns the
// error.
func (d *download) anotherFile(err error) error {
	if d.want == 0 || d.fresh {
		return d.failed(err)
	}
	d.mirror.log.Info("asking again, without caches", "file", d.name, "reason", err)
	d.disconnect()
	d.fresh = true
	return d.request()
}

// tooShort returns the error for a file that ends before the part that was asked for.
func (d *download) tooShort(resp *http.Response) error {
	total, ok := strings.CutPrefix(resp.Header.Get("Content-Range"), "bytes */")
	if size, err := strconv.ParseInt(total, 10, 64); ok && err == nil && size >= 0 && d.want > 0 {
		return wrongSize(size, d.want)
	}
	return fmt.Errorf("%w: it ends before byte %d", ErrChanged, d.pos)
}

// wrongSize returns the error for a file of another size.
func wrongSize(got, want int64) error {
	return fmt.Errorf("%w: it has %d bytes, want %d", ErrChanged, got, want)
}

// refused returns the error for an answer without the file.
func (d *download) refused(resp *http.Response) error {
	err := errors.New(resp.Status)
	switch code := resp.StatusCode; {
	case code == http.StatusRequestedRangeNotSatisfiable:
		return d.anotherFile(d.tooShort(resp))
	case code == http.StatusNotFound, code == http.StatusGone:
		err = Absent(code)
	case code == http.StatusForbidden: // some hosts answer so if the file does not exist
		err = fmt.Errorf("%w, or %w", err, Absent(code))
	case code == http.StatusNotImplemented:
		err = fmt.Errorf("%w: %w", ErrGivenUp, err)
	case code == http.StatusTooManyRequests, code >= http.StatusInternalServerError:
		wait, ok := retryAfter(resp)
		if !ok {
			return transient{err, d.backoff(d.attempts + 1)}
		}
		return transient{err, min(wait, d.mirror.patience.Longest)}
	}
	return d.failed(err)
}

// retryAfter returns how long a busy server asks to be left alone.
func retryAfter(resp *http.Response) (time.Duration, bool) {
	if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable {
		return 0, false
	}
	header := resp.Header.Get("Retry-After")
	if seconds, err := strconv.ParseInt(header, 10, 64); err == nil {
		const most = int64(math.MaxInt64 / time.Second)
		return time.Duration(min(seconds, most)) * time.Second, seconds >= 0
	}
	at, err := http.ParseTime(header)
	return max(time.Until(at), 0), err == nil
}

// validatorOf returns what identifies the content of a file: a strong ETag, or else
// the date of the last change.
func validatorOf(h http.Header) string {
	if tag := h.Get("ETag"); strings.HasPrefix(tag, `"`) {
		return tag
	}
	return h.Get("Last-Modified")
}

// contentRange parses the header of that name: "bytes 0-9/10". The size is -1
// if the server does not know it.
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
	// The rest was asked for, so the range must end where the file does.
	return start, size, endErr == nil && err == nil && end == size-1 && start <= end
}
