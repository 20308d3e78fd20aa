// Package transfer moves images to the workers of a farm and deltas back, over HTTP.
//
//	GET   /image/<blake3>          an image of the plan, with ranges, from the builder's mirror
//	GET   /delta/<blake3>          a compact delta to be verified, likewise
//	HEAD  /result/<job>/<worker>   Upload-Offset: the bytes of the result that have arrived
//	PATCH /result/<job>/<worker>   the bytes from the offset in the request's Upload-Offset on;
//	                               409 with the right one if that is another
//	POST  /report                  what became of a job, see package farm
//
// Each request has the header Authorization: Bearer <token>, which the caller checks. Of images
// only those of the plan are served, by their digests, so no request names a path. A result is
// taken from the worker that has the job, and never grows over the limit of the job. What has
// arrived when a connection breaks is kept. The answers:
//
//	200, 206, 204   done
//	403, 404        the builder does not want it any more
//	409             another offset
//	413             the result is larger than the limit
//	507             the disk of the builder is full
//
// Both ends give a transfer up of which nothing has moved for a while, 60 s in the worker and 30 s
// in the builder. The worker tries again up to 8 times without anything moved, with pauses of
// 0.25 s to 10 s between.
package transfer

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"puavo-image-repository/imagerepo/internal/work"
	"puavo-image-repository/meta/untrusted"
)

const (
	offsetHeader = "Upload-Offset"
	maxReport    = 16 << 10         // bytes
	chunk        = 1 << 20          // bytes that are read at once
	chunkTime    = 30 * time.Second // in which the next of them must arrive
)

// Store is the builder's end. It can be used concurrently.
type Store struct {
	mux    *http.ServeMux
	allow  func(id work.ID, worker string) (limit int64, ok bool)
	report func(report []byte) error

	sent, received atomic.Int64 // bytes

	mu      sync.Mutex
	images  map[work.ID]string // path in the mirror, by digest
	mirror  http.Handler
	deltas  map[work.ID]lent
	scratch func() (*os.File, error)
	results map[key]*result
}

// NewStore returns a store that serves and takes nothing before Begin. allow returns how many bytes
// a worker may send for a job, and false if it does not have the job; report takes what it says of
// one.
func NewStore(allow func(id work.ID, worker string) (limit int64, ok bool), report func(report []byte) error) *Store {
	s := &Store{mux: http.NewServeMux(), allow: allow, report: report}
	s.mux.HandleFunc("GET /image/{id}", s.image)
	s.mux.HandleFunc("GET /delta/{id}", s.delta)
	s.mux.HandleFunc("HEAD /result/{id}/{worker}", s.arrived)
	s.mux.HandleFunc("PATCH /result/{id}/{worker}", s.arrive)
	s.mux.HandleFunc("POST /report", s.hear)
	return s
}

// Moved returns how many bytes of images and deltas went to workers, and of results came from them.
func (s *Store) Moved() (sent, received int64) { return s.sent.Load(), s.received.Load() }

type lent struct {
	io.ReaderAt
	size int64
}

type key struct {
	job    work.ID
	worker string
}

// result is one that arrives.
type result struct {
	mu   sync.Mutex // held while bytes arrive
	file *os.File
	size int64
}

// Begin has the store serve the images of an offer from a mirror, and take results.
func (s *Store) Begin(mirror http.Handler, files map[work.File]string, scratch func() (*os.File, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mirror, s.scratch = mirror, scratch
	s.images, s.deltas, s.results = make(map[work.ID]string), make(map[work.ID]lent), make(map[key]*result)
	for f, path := range files {
		s.images[f.BLAKE3] = path
	}
}

// End has the store serve and take nothing, and frees the results that nobody has taken.
func (s *Store) End() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.results {
		r.file.Close()
	}
	s.mirror, s.images, s.deltas, s.results = nil, nil, nil, nil
}

// Lend has a delta served until back is called.
func (s *Store) Lend(f work.File, r io.ReaderAt) (back func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deltas != nil { // else End was called
		s.deltas[f.BLAKE3] = lent{r, f.Size}
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.deltas, f.BLAKE3)
	}
}

// Take returns the result that a worker has sent, of which the caller closes the file.
func (s *Store) Take(id work.ID, worker string) (f *os.File, size int64, ok bool) {
	s.mu.Lock()
	r := s.results[key{id, worker}]
	delete(s.results, key{id, worker})
	s.mu.Unlock()
	if r == nil {
		return nil, 0, false
	}
	r.mu.Lock() // what arrives still is too late
	defer r.mu.Unlock()
	return r.file, r.size, true
}

// Forget frees what has arrived of a job, which is given to another worker.
func (s *Store) Forget(id work.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, r := range s.results {
		if k.job == id {
			r.file.Close() // what arrives still ends with an error
			delete(s.results, k)
		}
	}
}

// ServeHTTP answers one request.
func (s *Store) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// counted counts the bytes that are sent.
type counted struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c counted) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.n.Add(int64(n))
	return n, err
}

func (c counted) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(c.ResponseWriter, r) // without a copy in this process, where that is possible
	c.n.Add(n)
	return n, err
}

func (c counted) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func idOf(r *http.Request) (id work.ID, ok bool) {
	err := id.UnmarshalText([]byte(r.PathValue("id")))
	return id, err == nil
}

func (s *Store) image(w http.ResponseWriter, r *http.Request) {
	id, ok := idOf(r)
	s.mu.Lock()
	path, planned := s.images[id]
	mirror := s.mirror
	s.mu.Unlock()
	if !ok || !planned {
		http.Error(w, "not an image of the plan", http.StatusNotFound)
		return
	}
	inner := r.Clone(r.Context())
	inner.URL = &url.URL{Path: "/" + path}
	mirror.ServeHTTP(counted{w, &s.sent}, inner)
}

func (s *Store) delta(w http.ResponseWriter, r *http.Request) {
	id, ok := idOf(r)
	s.mu.Lock()
	d, there := s.deltas[id]
	s.mu.Unlock()
	if !ok || !there {
		http.Error(w, "not a delta to verify", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(counted{w, &s.sent}, r, "", time.Time{}, io.NewSectionReader(d, 0, d.size))
}

// resultOf returns the result that a request is for, or answers it.
func (s *Store) resultOf(w http.ResponseWriter, r *http.Request) (res *result, limit int64) {
	id, ok := idOf(r)
	worker := r.PathValue("worker")
	if ok {
		limit, ok = s.allow(id, worker)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !ok || s.results == nil {
		http.Error(w, "not a job of this worker", http.StatusForbidden)
		return nil, 0
	}
	k := key{id, worker}
	if s.results[k] == nil {
		f, err := s.scratch()
		if err != nil {
			http.Error(w, "the builder has no room for it", http.StatusInsufficientStorage)
			return nil, 0
		}
		s.results[k] = &result{file: f}
	}
	return s.results[k], limit
}

func (s *Store) arrived(w http.ResponseWriter, r *http.Request) {
	if res, _ := s.resultOf(w, r); res != nil {
		res.mu.Lock()
		defer res.mu.Unlock()
		w.Header().Set(offsetHeader, strconv.FormatInt(res.size, 10))
	}
}

func (s *Store) arrive(w http.ResponseWriter, r *http.Request) {
	res, limit := s.resultOf(w, r)
	if res == nil {
		return
	}
	res.mu.Lock()
	defer res.mu.Unlock()
	at, err := strconv.ParseInt(r.Header.Get(offsetHeader), 10, 64)
	status := http.StatusNoContent
	switch {
	case err != nil || at != res.size:
		status = http.StatusConflict
	default:
		before := res.size
		err := res.take(w, r.Body, limit)
		s.received.Add(res.size - before)
		if err != nil {
			status = http.StatusInsufficientStorage
			if errors.Is(err, errTooLarge) {
				status = http.StatusRequestEntityTooLarge
			} else if isNetwork(err) {
				status = http.StatusBadRequest
			}
		}
	}
	w.Header().Set(offsetHeader, strconv.FormatInt(res.size, 10))
	w.WriteHeader(status)
}

var errTooLarge = errors.New("more than the job allows")

// network is an error of what arrives.
type network struct{ error }

func isNetwork(err error) bool {
	_, ok := errors.AsType[network](err)
	return ok
}

// take writes what arrives behind what has arrived.
func (r *result) take(w http.ResponseWriter, body io.Reader, limit int64) error {
	control := http.NewResponseController(w)
	buf := make([]byte, chunk)
	for {
		_ = control.SetReadDeadline(time.Now().Add(chunkTime)) // where it is not supported, there is no limit
		n, err := body.Read(buf)
		if int64(n) > limit-r.size {
			return errTooLarge
		}
		if _, err := r.file.WriteAt(buf[:n], r.size); err != nil {
			return err
		}
		r.size += int64(n)
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return network{err}
		}
	}
}

func (s *Store) hear(w http.ResponseWriter, r *http.Request) {
	data, err := untrusted.ReadAll(r.Body, maxReport)
	if err == nil {
		err = s.report(data)
	}
	if err != nil {
		http.Error(w, untrusted.Show(err.Error()), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
