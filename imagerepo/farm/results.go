package farm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/farm/internal/board"
	"puavo-image-repository/imagerepo/internal/work"
)

// act does what the board wants.
func (b *batch) act(a board.Actions) {
	for _, again := range a.Again {
		b.farm.options.Log.Info("farm", "again", again.ID.String()[:8], "worker", again.Worker, "reason", again.Reason)
		b.farm.store.Forget(again.ID)
		b.put(again.ID)
	}
	for _, back := range a.Back {
		b.ended(back.ID)
		b.farm.store.Forget(back.ID)
		b.mu.Lock()
		v, it := b.checks[back.ID], b.jobs[back.ID]
		delete(b.checks, back.ID)
		b.mu.Unlock()
		if it.Kind != work.Verify {
			b.deliver(work.Result{Job: it.Job, Err: errors.New(strings.Join(back.Reasons, "; "))})
		} else if v != nil { // nobody has applied it
			v.back()
			v.result.Check = true
			b.deliver(v.result)
		}
	}
}

// report does what follows from what a worker says of a job.
func (b *batch) report(r report) {
	f := b.farm
	b.mu.Lock()
	it, ours := b.jobs[r.Job]
	b.mu.Unlock()
	if !ours || !f.board.Has(r.Job, r.Worker) {
		return
	}
	now := time.Now()
	f.options.Log.Info("farm", "job", string(it.Kind), "base", it.Base.BLAKE3.String()[:8], "target", it.Target.BLAKE3.String()[:8], "worker", r.Worker, "result", r.outcome())
	switch {
	case r.Error != "":
		b.act(f.board.Fail(now, r.Job, r.Worker, r.Error))
	case it.Kind == work.Verify:
		if f.board.End(now, r.Job, r.Worker) {
			b.verified(r)
		}
	case r.TooLarge:
		if f.board.End(now, r.Job, r.Worker) {
			b.ended(r.Job)
			f.store.Forget(r.Job)
			b.deliver(work.Result{Job: it.Job, Maker: r.Worker, Err: fmt.Errorf("%s says that it is not worth having", r.Worker)})
		}
	default:
		b.made(now, it, r)
	}
}

// verified takes what a worker says that has applied a compact delta.
func (b *batch) verified(r report) {
	b.ended(r.Job)
	b.mu.Lock()
	v := b.checks[r.Job]
	delete(b.checks, r.Job)
	b.mu.Unlock()
	if v == nil { // the batch is closed
		return
	}
	v.back()
	if r.Wrong {
		v.result.Accuser, v.result.Check = r.Worker, true
	} else {
		v.result.Verifier, v.result.Check = r.Worker, b.isRechecked()
	}
	b.deliver(v.result)
}

// made takes a delta that a worker has sent.
func (b *batch) made(now time.Time, it work.Item, r report) {
	f := b.farm
	file, size, ok := f.store.Take(r.Job, r.Worker)
	if !ok || size != r.Size {
		if ok {
			file.Close()
		}
		b.act(f.board.Fail(now, r.Job, r.Worker, "its result has not arrived"))
		return
	}
	if !f.board.End(now, r.Job, r.Worker) {
		file.Close()
		return
	}
	b.ended(r.Job)
	result := work.Result{Job: it.Job, File: file, Size: size, Maker: r.Worker, Check: true}
	if it.Kind != work.Compact || !f.board.Others(r.Worker) || !b.askAnother(it, result) {
		b.deliver(result)
	}
}

// askAnother has another worker apply a compact delta, and reports whether that is possible.
func (b *batch) askAnother(it work.Item, r work.Result) bool {
	digest, err := digestOf(r.File, r.Size)
	if err != nil || r.Size == 0 {
		return false
	}
	delta := work.File{Size: r.Size, BLAKE3: digest}
	j := work.Job{Format: work.Format, Kind: work.Verify, Base: it.Base, Target: it.Target, Delta: delta}
	id, check := j.ID(), work.Item{Job: j, Seconds: it.Seconds / applying}
	b.mu.Lock()
	if b.closed || b.checks[id] != nil { // two workers have made it
		b.mu.Unlock()
		return false
	}
	b.jobs[id] = check
	b.checks[id] = &verifying{r, b.farm.store.Lend(delta, r.File)}
	b.farm.board.Add(time.Now(), id, check, r.Maker)
	b.mu.Unlock()
	b.put(id)
	return true
}

// applying is how many times faster a compact delta is applied than made.
const applying = 5

func digestOf(f *os.File, size int64) (d cksum.Digest256, err error) {
	h := cksum.NewBLAKE3()
	_, err = io.Copy(h, io.NewSectionReader(f, 0, size))
	return cksum.Digest256(h.Sum(nil)), err
}
