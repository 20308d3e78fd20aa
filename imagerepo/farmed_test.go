package imagerepo

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"puavo-image-repository/imagerepo/internal/work"
	"puavo-image-repository/meta"
)

// early is a farm that has made all deltas, those of an earlier mirror, when the builder comes to
// the first.
type early struct{ mirror string }

func (e early) Offer(_ context.Context, o Offer) (Batch, error) {
	b := &earlyBatch{accepted: make(chan struct{})}
	for _, it := range o.Jobs {
		base, err := meta.ParseName(o.Files[it.Base])
		target, failed := meta.ParseName(o.Files[it.Target])
		f, missing := os.Open(filepath.Join(e.mirror, meta.DeltaPath(meta.DeltaName(base, target))))
		if err := errors.Join(err, failed, missing); err != nil {
			return nil, err
		}
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		b.results = append(b.results, work.Result{Job: it.Job, File: f, Size: info.Size(), Maker: "w0", Check: true})
	}
	b.left = len(b.results)
	return b, nil
}

type earlyBatch struct {
	mu       sync.Mutex
	results  []work.Result
	left     int
	accepted chan struct{} // closed when all are
}

func (b *earlyBatch) Take(Job) bool {
	<-b.accepted
	return false
}

func (b *earlyBatch) Next(ctx context.Context) (work.Result, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.results) == 0 {
		return work.Result{}, io.EOF
	}
	r := b.results[0]
	b.results = b.results[1:]
	return r, ctx.Err()
}

func (b *earlyBatch) Checked(work.Result, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left--; b.left == 0 {
		close(b.accepted)
	}
}

func (*earlyBatch) TakeOver(int) []Job     { return nil }
func (*earlyBatch) Idle()                  {}
func (*earlyBatch) Distrusted(string) bool { return false }
func (*earlyBatch) Close() error           { return nil }

// What workers have made before the builder comes to it is not made again.
func TestEarlyWorkers(t *testing.T) {
	p := newPlace(t, image1, image2, image3, image4)
	alone := p.build()
	q := p.copied()
	q.Farm = early{p.MirrorDir}
	if s := q.build(); s.Made != alone.Made || s.Made == 0 || s.Kept != 0 || s.DeltaBytes != alone.DeltaBytes {
		t.Errorf("%+v, without workers %+v", s, alone)
	}
	if got, want := q.tree(), p.tree(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
