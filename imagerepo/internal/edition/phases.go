package edition

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"puavo-image-repository/imagerepo/internal/edition/record"
	"puavo-image-repository/imagerepo/internal/meter"
	"puavo-image-repository/imagerepo/internal/pool"
	"puavo-image-repository/imagerepo/internal/store"
)

// Summary is what a run did.
type Summary struct {
	Sent    int64 `json:"sent"`    // bytes of payload
	Resumed int64 `json:"resumed"` // bytes that an earlier run had sent
	Files   int   `json:"files"`   // payload that was sent
	Written int   `json:"written"` // documents
	Removed int   `json:"removed"` // orphans
	Changed bool  `json:"changed"`
}

// run carries out a plan.
type run struct {
	*Work
	meter *meter.Meter

	sent, resumed  atomic.Int64
	files, written atomic.Int64
	removed        int

	record record.Record // what the destination has, once it is written
}

// Run carries out the plan, once. Before each phase it calls holds, whose error ends it.
func (w *Work) Run(ctx context.Context, holds func(context.Context) error) (Summary, error) {
	r := &run{Work: w, record: w.inventory.record, meter: meter.New(w.Plan.Bytes, w.options.Progress)}
	r.record.Files = maps.Clone(w.inventory.record.Files)
	if w.options.Stage != nil {
		r.meter.Tell(func(s meter.Step) { w.options.Stage(s.Stage, s.File) })
	}
	err := r.phases(ctx, holds)
	return r.summary(), err
}

// phases does what the plan says, see the package documentation.
func (r *run) phases(ctx context.Context, holds func(context.Context) error) error {
	if r.Plan.Nothing() {
		if err := r.settle(ctx); err != nil {
			return err
		}
		return r.sweep(ctx)
	}
	for _, phase := range []func(context.Context) error{r.enter, r.send, r.takeOut, r.release, r.publish, r.trust, r.settle, r.remove} {
		// A lease that was lost in the meantime ends the run before it changes what another writes.
		if err := holds(ctx); err != nil {
			return err
		}
		if err := phase(ctx); err != nil {
			return err
		}
	}
	return nil
}

// enter enters the names of all that will be written into the record.
func (r *run) enter(ctx context.Context) error {
	all := r.edition.all()
	for _, name := range r.compared.same {
		if e, recorded := r.record.Files[name]; recorded {
			e.Orphaned = 0 // before a document names it again
			r.record.Files[name] = e
		}
	}
	for _, name := range slices.Concat(r.compared.fresh, r.compared.changed, r.compared.writes) {
		next := all[name]
		e := r.record.Files[name]
		e.Content, e.Next, e.Orphaned = r.holds[name], &next, 0
		r.record.Files[name] = e
	}
	if w := r.withdrawal.signed; w != nil {
		for _, d := range slices.Concat(w.trusted, w.roots) {
			next := d.content()
			r.record.Files[d.name] = record.Entry{Next: &next}
		}
	}
	if err := r.writeRecord(ctx); err != nil {
		return err
	}
	return r.sweep(ctx)
}

// sweep removes what other runs have left aside, which may fill the disk, except what this
// run continues.
func (r *run) sweep(ctx context.Context) error { return r.store.Sweep(ctx, r.toSend("")) }

// toSend returns the payload that is sent, but for one.
func (r *run) toSend(except string) (all []store.Content) {
	for _, name := range slices.Concat(r.compared.fresh, r.compared.changed) {
		if isPayload(name) && name != except {
			all = append(all, r.content(name))
		}
	}
	return all
}

// makeRoom returns the error for payload that could not be sent. Where it has filled the disk,
// it is removed: the next run needs some room to begin with.
func (r *run) makeRoom(name string, err error) error {
	if !errors.Is(err, syscall.ENOSPC) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // the run's own may have ended
	defer cancel()
	return errors.Join(err, r.store.Sweep(ctx, r.toSend(name)))
}

func (r *run) writeRecord(ctx context.Context) error {
	data, err := r.record.Encode()
	if err != nil {
		return err
	}
	return r.store.Write(ctx, record.Name, data)
}

// send sends payload, and the signed files that the timestamp will name. New payload gets its
// name; changed payload and torrents stay aside.
func (r *run) send(ctx context.Context) error {
	began := time.Now()
	payload := slices.DeleteFunc(slices.Clone(r.compared.fresh), func(name string) bool { return !isPayload(name) })
	err := pool.Each(ctx, r.options.Jobs, slices.Concat(payload, r.compared.changed), func(ctx context.Context, name string) error {
		defer r.meter.Begin("payload_send", name)()
		c := r.content(name)
		if err := r.store.Stage(ctx, c); err != nil {
			return r.makeRoom(name, err)
		}
		r.files.Add(1)
		if r.options.Sent != nil {
			r.options.Sent(name, c.Size)
		}
		if isTorrent(name) || slices.Contains(r.compared.changed, name) {
			return nil
		}
		return r.store.Release(ctx, c)
	})
	if err != nil {
		return err
	}
	r.setRate(time.Since(began))
	return r.writeAll(ctx, r.edition.trusted, r.compared.fresh)
}

// setRate remembers how fast payload was sent, if it was enough to measure.
func (r *run) setRate(took time.Duration) {
	const enough = 16 << 20
	if sent := r.sent.Load(); sent >= enough && took > 0 {
		r.record.Rate = float64(sent) / took.Seconds()
	}
}

// content returns payload as a store takes it.
func (r *run) content(name string) store.Content {
	c := r.edition.payload[name]
	return store.Content{
		Name: name, Size: c.Size, SHA256: c.SHA256, Open: func() (*os.File, error) { return r.source.Open(name) },
		Done: func(n int64, sent bool) {
			if r.meter.Add(n); sent {
				r.sent.Add(n)
			} else {
				r.resumed.Add(n)
			}
		},
	}
}

// writeAll writes those documents, in their order, that are among these names.
func (r *run) writeAll(ctx context.Context, documents []document, names []string) error {
	for _, d := range documents {
		if !slices.Contains(names, d.name) {
			continue
		}
		if err := r.write(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) write(ctx context.Context, d document) error {
	if err := r.store.Write(ctx, d.name, d.data); err != nil {
		return err
	}
	r.written.Add(1)
	return ctx.Err()
}

// takeOut writes the documents of the destination without what will change.
func (r *run) takeOut(ctx context.Context) error {
	defer r.meter.Begin("withdraw", "")()
	for _, d := range r.withdrawal.all() {
		if err := r.write(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// release gives changed payload its names, and then torrents: clients find these without any
// document.
func (r *run) release(ctx context.Context) error {
	aside := slices.Concat(r.compared.changed, slices.DeleteFunc(slices.Clone(r.compared.fresh), isFile))
	for _, names := range [][]string{
		slices.DeleteFunc(slices.Clone(aside), isTorrent), slices.DeleteFunc(slices.Clone(aside), isFile),
	} {
		err := pool.Each(ctx, r.options.Jobs, names, func(ctx context.Context, name string) error {
			return r.store.Release(ctx, r.content(name))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// publish writes the documents of the edition.
func (r *run) publish(ctx context.Context) error {
	defer r.meter.Begin("publish", "")()
	names := r.compared.writes
	for _, d := range slices.Concat(r.withdrawal.lists, r.withdrawal.documents) {
		names = append(slices.Clip(names), d.name) // it was written without something
	}
	return r.writeAll(ctx, r.edition.documents, names)
}

// trust writes the timestamp and new roots. Where the destination has no root, these come
// first.
func (r *run) trust(ctx context.Context) error {
	documents := slices.Concat(r.edition.timestamp, r.edition.roots)
	if len(r.inventory.trustOf().roots) == 0 {
		documents = slices.Concat(r.edition.roots, r.edition.timestamp)
	}
	names := r.compared.writes
	if w := r.withdrawal.signed; w != nil {
		names = slices.Concat(names, namesOf(r.edition.timestamp))
	}
	return r.writeAll(ctx, documents, names)
}

func namesOf(documents []document) (names []string) {
	for _, d := range documents {
		names = append(names, d.name)
	}
	return names
}

// settle records what the destination has: the edition, and since when the rest are orphans.
func (r *run) settle(ctx context.Context) error {
	before, err := r.record.Encode()
	if err != nil {
		return err
	}
	all := r.edition.all()
	for name, content := range all {
		r.record.Files[name] = record.Entry{Content: content}
	}
	now := r.now.Unix()
	for name, e := range r.record.Files {
		if _, published := all[name]; published {
			continue
		}
		if e.Next != nil { // of a run that ended early; either content will do
			e.Content, e.Next = *e.Next, nil
		}
		if e.Orphaned == 0 || e.Orphaned > now {
			e.Orphaned = now
		}
		r.record.Files[name] = e
	}
	if after, err := r.record.Encode(); err != nil || string(after) == string(before) {
		return err
	}
	return r.writeRecord(ctx)
}

// remove removes the orphans that are due, and what the record has of others that are gone.
func (r *run) remove(ctx context.Context) error {
	forgotten := false
	for _, f := range r.Plan.Remove {
		if !f.Due.IsZero() {
			continue
		}
		if err := r.store.Remove(ctx, f.Name); err != nil {
			return err
		}
		delete(r.record.Files, f.Name)
		r.removed++
		forgotten = true
	}
	if !forgotten {
		return nil
	}
	return r.writeRecord(ctx)
}

func (r *run) summary() Summary {
	return Summary{
		Sent: r.sent.Load(), Resumed: r.resumed.Load(), Files: int(r.files.Load()), Written: int(r.written.Load()), Removed: r.removed,
		Changed: r.files.Load()+r.written.Load() > 0 || r.removed > 0,
	}
}
