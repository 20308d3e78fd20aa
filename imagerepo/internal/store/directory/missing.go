package directory

import (
	"context"
	"io"
	"io/fs"

	"puavo-image-repository/imagerepo/internal/store"
)

// Missing returns a store for a directory that does not exist yet, for plans: it has no files,
// and only looking at it is allowed.
func Missing(path string) store.Store { return nothing{directory: path} }

type nothing struct {
	store.Store
	directory string
}

func (n nothing) String() string                               { return n.directory }
func (nothing) List(ctx context.Context) ([]store.File, error) { return nil, ctx.Err() }
func (nothing) Requests(int64) int64                           { return 0 }
func (nothing) Close() error                                   { return nil }

func (n nothing) Open(_ context.Context, name string) (io.ReadCloser, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}
