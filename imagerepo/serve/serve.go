// Package serve serves a mirror over HTTP, read-only: for a trial, for a school
// network, or behind a proxy. A static host does the same; nothing in a mirror needs
// this package.
//
//	h, err := serve.Open("mirror")        // an http.Handler, to be mounted anywhere
//	err = serve.Run(ctx, listener, h, log) // a server for it, until ctx ends
//
// # What is served
//
// GET and HEAD of regular files, with ranges and conditions as package net/http has
// them. The root, "/", is index.html. Directories are not listed. Package mediatype has the
// types of files, and how long they may be kept: payload for a day, a document not at all.
// A request for a document that has not changed is answered by 304 without a body.
//
// The ETag is a digest of the file's stamp: size, modification time, change time and
// inode. So it changes with the content, whoever changed it and whatever time they gave
// the file, and costs no read. The digests of the documents would cost one for each file
// that no document names, and would be wrong while a build has replaced a file and not
// yet the documents. It also changes when an image gets or loses a hard link; a client
// that resumes a download then starts again.
//
// # What is not
//
// Whatever is not a plain path of the mirror is 404, and never a redirect: a part that begins
// with a dot (.repo is private, and in the name of a mirror's file no part does), an empty
// part, a backslash, a control character, an encoded slash, and a path that ends in a
// slash but the root. So is what is no regular file: directories, pipes, devices, and
// symbolic links, wherever they point to and wherever in the path they are.
//
// A file that is replaced while it is sent is sent to its end as it was. From one that is
// cut short in place, the connection breaks, so that nobody mistakes a part for the whole.
//
// There is no TLS. Clients that come from elsewhere need a proxy in front that has a
// certificate.
package serve

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"syscall"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/mediatype"
	"puavo-image-repository/imagerepo/internal/mirror"
)

// Handler serves one mirror. It can be used concurrently.
type Handler struct{ dir atomicfile.Dir }

// Open returns the handler of the mirror in a directory. Whoever calls it calls Close when
// nothing more is served. The directory must exist; whether it is a mirror is not
// looked at, so that an empty one can be served before the first build.
func Open(dir string) (*Handler, error) {
	d, err := atomicfile.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("the mirror: %w; check the path", err)
	}
	return &Handler{d}, nil
}

// Close closes the directory.
func (h *Handler) Close() error { return h.dir.Close() }

// ServeHTTP answers one request. To mount the mirror below a path, strip that with
// http.StripPrefix.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		refuse(w, http.StatusMethodNotAllowed, "this mirror can only be read")
		return
	}
	name, ok := nameOf(r)
	if !ok {
		refuse(w, http.StatusNotFound, "no such file")
		return
	}
	f, err := h.open(name)
	if err != nil {
		status, why := statusOf(err)
		refuse(w, status, why)
		return
	}
	defer f.Close()
	if err := send(w, r, name, f); err != nil {
		refuse(w, http.StatusInternalServerError, "the file cannot be read")
	}
}

// nameOf returns the path in the mirror that a request is for, and whether it can be one.
func nameOf(r *http.Request) (name string, ok bool) {
	name, ok = strings.CutPrefix(r.URL.Path, "/")
	if !ok || strings.Contains(strings.ToLower(r.URL.EscapedPath()), "%2f") {
		return "", false
	}
	if name == "" {
		return mirror.Page, true
	}
	unsafe := func(c rune) bool { return c < ' ' || c == 0x7f || c == '\\' }
	if !fs.ValidPath(name) || strings.ContainsFunc(name, unsafe) {
		return "", false
	}
	return name, !strings.HasPrefix(name, ".") && !strings.Contains(name, "/.")
}

// open opens a file of the mirror, to which no symbolic link leads.
func (h *Handler) open(name string) (*os.File, error) {
	for i, c := range name {
		if c != '/' {
			continue
		}
		if info, err := h.dir.Lstat(name[:i]); err != nil {
			return nil, err
		} else if !info.IsDir() {
			return nil, fs.ErrNotExist
		}
	}
	return h.dir.Open(name)
}

// statusOf returns the status of an answer about a file that cannot be opened, and the
// reason. It says nothing of paths outside of the mirror.
func statusOf(err error) (status int, why string) {
	for _, missing := range []error{fs.ErrNotExist, atomicfile.ErrNotRegular, syscall.ENOTDIR, syscall.ENAMETOOLONG, syscall.ELOOP} {
		if errors.Is(err, missing) {
			return http.StatusNotFound, "no such file"
		}
	}
	if errors.Is(err, fs.ErrPermission) {
		return http.StatusForbidden, "the server is not allowed to read this file"
	}
	return http.StatusInternalServerError, "the file cannot be opened"
}

// refuse answers without a file.
func refuse(w http.ResponseWriter, status int, why string) {
	h := w.Header()
	h.Del("ETag")
	h.Set("Cache-Control", "no-cache")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, why+"\n") // to a client that may be gone
}

// send answers with an open file, or with the part of it or the status that the request
// asks for.
func send(w http.ResponseWriter, r *http.Request, name string, f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	kind := mediatype.Of(name)
	h := w.Header()
	h.Set("Content-Type", kind.ContentType)
	h.Set("Cache-Control", kind.CacheControl)
	h.Set("ETag", etag(info))
	http.ServeContent(w, r, "", info.ModTime(), f)
	return nil
}
