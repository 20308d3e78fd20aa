package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"puavo-image-repository/meta"
)

// maxDocument bounds the size of a JSON document, in bytes.
const maxDocument = 64 << 20

// mirror gives the files of a mirror, which is a directory or a web site.
type mirror struct {
	root *os.Root // of a directory
	url  string   // of a web site, without a final slash
	http *http.Client
}

// openMirror opens a mirror: a http or https URL, a file URL, or a directory.
func openMirror(where string) (*mirror, error) {
	dir := where
	if strings.Contains(where, "://") {
		u, err := url.Parse(where)
		switch {
		case err != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
			return nil, fmt.Errorf("mirror %s: not the URL of a mirror", where)
		case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
			return openSite(u), nil
		case u.Scheme != "file" || u.Host != "" && u.Host != "localhost":
			return nil, fmt.Errorf("mirror %s: want a directory or a http, https or file URL", where)
		}
		dir = u.Path
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	return &mirror{root: root}, nil
}

func openSite(u *url.URL) *mirror {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = time.Minute
	transport.DisableCompression = true // digests are of the bytes as they lie there
	return &mirror{
		url:  strings.TrimRight(u.String(), "/"),
		http: &http.Client{Transport: transport, CheckRedirect: checkRedirect},
	}
}

// checkRedirect lets no one lead from https to plain http.
func checkRedirect(req *http.Request, via []*http.Request) error {
	switch {
	case len(via) >= 10:
		return errors.New("more than 10 redirects")
	case req.URL.Scheme != "https" && via[0].URL.Scheme == "https":
		return errors.New("a redirect from https to " + req.URL.Scheme)
	}
	return nil
}

func (m *mirror) close() {
	if m.root != nil {
		m.root.Close()
	} else {
		m.http.CloseIdleConnections()
	}
}

// open returns a file of the mirror. A file that is not there is an
// fs.ErrNotExist.
func (m *mirror) open(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if m.root != nil {
		return m.root.Open(name)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.url+"/"+name, nil)
	if err != nil {
		return nil, err
	}
	resp, err := m.http.Do(req)
	if err != nil {
		return nil, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return resp.Body, nil
	case http.StatusNotFound, http.StatusGone:
		err = fs.ErrNotExist
	default:
		err = errors.New(resp.Status)
	}
	resp.Body.Close()
	return nil, &fs.PathError{Op: "GET", Path: req.URL.Redacted(), Err: err}
}

// document returns a JSON document of the mirror.
func (m *mirror) document(ctx context.Context, name string) ([]byte, error) {
	body, err := m.open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(data) > maxDocument {
		return nil, fmt.Errorf("%s has more than %d bytes", name, maxDocument)
	}
	return data, nil
}

// seriesOf returns the series that an image is in. Most often it has the name
// that the image's name gives; where not, the index is asked. An image that is in
// no series leads to the one whose name its name gives.
func (m *mirror) seriesOf(ctx context.Context, n meta.Name) (*meta.Series, error) {
	own, ownErr := m.series(ctx, n.Series())
	if ownErr == nil && has(own, n) {
		return own, nil
	} else if ownErr != nil && !errors.Is(ownErr, fs.ErrNotExist) {
		return nil, ownErr
	}
	index, err := m.index(ctx)
	if err != nil {
		return nil, err
	}
	for _, e := range index.Series {
		if e.Name == n.Series() {
			continue
		}
		if s, err := m.series(ctx, e.Name); err != nil || has(s, n) {
			return s, err
		}
	}
	if ownErr != nil {
		return nil, fmt.Errorf("%w: %s is in no series of the mirror: %w", ErrNoImage, n, ownErr)
	}
	return own, nil
}

func has(s *meta.Series, n meta.Name) bool {
	_, ok := s.Image(n)
	return ok
}

// index returns the index; mirrors of the predecessor have none.
func (m *mirror) index(ctx context.Context) (meta.Index, error) {
	data, err := m.document(ctx, "index.json")
	if errors.Is(err, fs.ErrNotExist) {
		return meta.Index{}, nil
	} else if err != nil {
		return meta.Index{}, err
	}
	index, err := meta.ParseIndex(data)
	if err != nil {
		return meta.Index{}, fmt.Errorf("index.json: %w", err)
	}
	return index, nil
}

// series returns the series of that name.
func (m *mirror) series(ctx context.Context, name string) (*meta.Series, error) {
	data, err := m.document(ctx, meta.SeriesPath(name))
	if err != nil {
		return nil, err
	}
	s, err := meta.ParseSeries(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", meta.SeriesPath(name), err)
	}
	return &s, nil
}
