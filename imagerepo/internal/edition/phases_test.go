package edition

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/internal/edition/record"
	"puavo-image-repository/imagerepo/internal/store"
)

// noted is a store that keeps documents, and notes each call that changes it. If requested is
// set, a request takes 10 bytes.
type noted struct {
	store.Store
	did       []string
	files     map[string]string
	requested bool
}

func (n *noted) String() string { return "there" }

func (n *noted) Requests(size int64) int64 {
	if !n.requested {
		return 0
	}
	return size/10 + 1
}

func (n *noted) note(ctx context.Context, what, name string) error {
	if ctx.Err() == nil {
		n.did = append(n.did, what+" "+name)
	}
	return ctx.Err()
}

func (n *noted) Write(ctx context.Context, name string, data []byte) error {
	n.files[name] = string(data)
	return n.note(ctx, "write", name)
}

func (n *noted) Stage(ctx context.Context, c store.Content) error {
	c.Report(c.Size, true)
	return n.note(ctx, "stage", c.Name)
}

func (n *noted) Release(ctx context.Context, c store.Content) error {
	return n.note(ctx, "release", c.Name)
}

func (n *noted) Remove(ctx context.Context, name string) error { return n.note(ctx, "remove", name) }

func (n *noted) Sweep(ctx context.Context, keep []store.Content) error { return ctx.Err() }

// record returns the record that was written last.
func (n *noted) record(t *testing.T) map[string]record.Entry {
	t.Helper()
	r, err := record.Parse([]byte(n.files[record.Name]))
	if err != nil {
		t.Fatal(err)
	}
	return r.Files
}

func documents(names ...string) (all []document) {
	for _, name := range names {
		all = append(all, document{name, []byte(name)})
	}
	return all
}

var now = time.Unix(1e9, 0)

// work returns a Work for an edition, with what the destination holds of it, and the documents
// that are there.
func work(e *edition, holds map[string]record.Content, recorded map[string]record.Entry, there ...string) *Work {
	if recorded == nil {
		recorded = make(map[string]record.Entry)
	}
	v := &Inventory{files: map[string]store.File{}, documents: map[string][]byte{}, record: record.Record{Files: recorded}}
	for _, d := range documents(there...) {
		v.documents[d.name] = d.data
	}
	return &Work{
		options: Options{Jobs: 1, Grace: time.Hour, Log: slog.New(slog.DiscardHandler)}, store: &noted{files: map[string]string{}}, edition: e, inventory: v,
		holds: holds, compared: compare(e, holds, recorded), now: now,
	}
}

const (
	timestamp = "tuf/timestamp.json"
	root1     = "tuf/1.root.json"
	root2     = "tuf/2.root.json"
	targets   = "tuf/5.targets.json"
	torrent   = "torrents/a.img.torrent"
)

// signed is a signed edition.
func signed() *edition {
	return &edition{
		payload:   map[string]record.Content{"a.img": of(100), "rdiffs/a.rdiff": of(20), torrent: of(3)},
		documents: documents("meta/a.json", "index.json", "CKSUMS", "SHA256SUMS"), trusted: documents(targets),
		timestamp: documents(timestamp), roots: documents(root1, root2),
	}
}

// but returns what a destination holds that has all of an edition, except that the contents of
// some files are other ones, and some files are missing.
func but(e *edition, other, not []string) map[string]record.Content {
	all := e.all()
	for _, name := range other {
		all[name] = of(7)
	}
	for _, name := range not {
		delete(all, name)
	}
	return all
}

// The steps of each phase come in their order: a file comes before those that name it.
func TestPhases(t *testing.T) {
	published := map[string]record.Entry{"old.img": {Orphaned: 1}, "meta/old.json": {Orphaned: 1}, "new.img": {}}
	replaced := withdrawal{
		lists: documents("SHA256SUMS"), documents: documents("meta/a.json", "CKSUMS"),
		signed: &edition{trusted: documents("tuf/4.targets.json"), timestamp: documents(timestamp), roots: documents(root2)},
	}
	const enter, settle = "write " + record.Name, "write " + record.Name
	for _, c := range []struct {
		name       string
		holds      map[string]record.Content
		recorded   map[string]record.Entry
		there      []string
		withdrawal withdrawal
		want       []string
	}{
		{"the first, signed", nil, nil, nil, withdrawal{}, []string{
			enter, "stage a.img", "release a.img", "stage rdiffs/a.rdiff", "release rdiffs/a.rdiff", "stage " + torrent, "write " + targets,
			"release " + torrent, "write meta/a.json", "write index.json", "write CKSUMS", "write SHA256SUMS",
			"write " + root1, "write " + root2, "write " + timestamp, settle}},
		{"new documents and a new root", but(signed(), []string{"meta/a.json", "SHA256SUMS", timestamp}, []string{targets, root2}), nil, []string{root1, timestamp}, withdrawal{}, []string{
			enter, "write " + targets, "write meta/a.json", "write SHA256SUMS", "write " + timestamp, "write " + root2, settle}},
		{"an image is replaced, with its torrent", but(signed(), []string{"a.img", torrent}, nil), published, []string{root1, timestamp}, replaced, []string{
			enter, "stage a.img", "stage " + torrent, "write SHA256SUMS", "write meta/a.json", "write CKSUMS",
			"write tuf/4.targets.json", "write " + timestamp, "write " + root2, "release a.img", "release " + torrent,
			"write meta/a.json", "write CKSUMS", "write SHA256SUMS", "write " + timestamp, settle,
			"remove meta/old.json", "remove old.img", settle}},
		{"nothing", but(signed(), nil, nil), nil, []string{root1, root2, timestamp}, withdrawal{}, []string{settle}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := work(signed(), c.holds, c.recorded, c.there...)
			w.withdrawal = c.withdrawal
			w.Plan = w.plan()
			if _, err := w.Run(t.Context(), func(context.Context) error { return nil }); err != nil {
				t.Fatal(err)
			}
			if got := w.store.(*noted).did; !slices.Equal(got, c.want) {
				t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		w := work(signed(), nil, nil)
		w.Plan = w.plan()
		if _, err := w.Run(ctx, func(context.Context) error { return nil }); !errors.Is(err, context.Canceled) || len(w.store.(*noted).did) > 0 {
			t.Errorf("%v, %v", err, w.store.(*noted).did)
		}
	})
	t.Run("lost the lease", func(t *testing.T) {
		lost := errors.New("lost")
		for phase, want := range []string{"", enter, "write " + targets, "write " + targets, "release " + torrent, "write SHA256SUMS", "write " + timestamp, settle} {
			w := work(signed(), nil, nil)
			w.Plan = w.plan()
			calls := 0
			_, err := w.Run(t.Context(), func(context.Context) error {
				if calls++; calls > phase {
					return lost
				}
				return nil
			})
			did := w.store.(*noted).did
			if last := append([]string{""}, did...)[len(did)]; err != lost || last != want {
				t.Errorf("before phase %d: %v, after %q, want %q", phase, err, last, want)
			}
		}
	})
}

// A plan is made of what was compared, withdrawn, and orphaned.
func TestPlan(t *testing.T) {
	e := signed()
	all := func(w *Work) {}
	file := func(name string, size int64) File { return File{Name: name, Size: size} }
	for _, c := range []struct {
		name     string
		holds    map[string]record.Content
		recorded map[string]record.Entry
		change   func(w *Work)
		want     Plan
		nothing  bool
	}{
		{"all is new", nil, nil, all, Plan{
			New: []File{file("a.img", 100), file("rdiffs/a.rdiff", 20), file(torrent, 3)}, Signed: []string{targets},
			Documents: []string{"CKSUMS", "SHA256SUMS", "index.json", "meta/a.json"}, Trust: []string{root1, root2, timestamp}, Bytes: 123}, false},
		{"nothing is", e.all(), nil, all, Plan{Kept: 11}, true},
		{"a changed image", but(e, []string{"a.img"}, nil), nil, func(w *Work) {
			w.withdrawal = withdrawal{lists: documents("SHA256SUMS"), documents: documents("meta/a.json"), signed: &edition{trusted: documents(targets), timestamp: documents(timestamp), roots: documents(root2)}}
		}, Plan{Changed: []File{file("a.img", 100)}, Withdraw: []string{"SHA256SUMS", "meta/a.json", targets, timestamp, root2}, Kept: 10, Bytes: 100}, false},
		{"signed alone", but(e, nil, []string{targets}), nil, all, Plan{Signed: []string{targets}, Kept: 10}, false},
		{"will be signed", e.all(), nil, func(w *Work) { w.signs = true }, Plan{Signs: true, Kept: 11}, false},
		{"an orphan is due", e.all(), map[string]record.Entry{"old.img": {Orphaned: now.Unix() - 3600}, "young.img": {Orphaned: now.Unix() - 60}}, func(w *Work) {
			w.inventory.files["old.img"] = store.File{Size: 9}
		}, Plan{Remove: []File{file("old.img", 9), {"young.img", 0, now.Add(59 * time.Minute)}}, Kept: 11}, false},
		{"none is due", e.all(), map[string]record.Entry{"young.img": {Orphaned: now.Unix() - 60}}, all, Plan{
			Remove: []File{{"young.img", 0, now.Add(59 * time.Minute)}}, Kept: 11}, true},
		{"by requests, at the rate before", but(e, nil, []string{"a.img", "index.json", targets, timestamp}), map[string]record.Entry{"old.img": {}}, func(w *Work) {
			w.store.(*noted).requested = true
			w.inventory.record.Rate = 40
			w.withdrawal.lists = documents("SHA256SUMS")
			w.options.Grace = 0
		}, Plan{
			New: []File{file("a.img", 100)}, Signed: []string{targets}, Withdraw: []string{"SHA256SUMS"}, Documents: []string{"index.json"}, Trust: []string{timestamp},
			Remove: []File{file("old.img", 0)}, Kept: 7, Bytes: 100, Requests: 11 + 5, Seconds: 2.5}, false},
	} {
		w := work(signed(), c.holds, c.recorded)
		c.change(w)
		c.want.Destination = "there"
		if got := w.plan(); !reflect.DeepEqual(got, c.want) || got.Nothing() != c.nothing {
			t.Errorf("%s: nothing: %v\n%+v\nwant\n%+v", c.name, got.Nothing(), got, c.want)
		}
	}
}

// A file stops being an orphan before it is written. An orphan that is not in this edition
// keeps its date; one in the future is replaced.
func TestOrphaned(t *testing.T) {
	e := &edition{payload: map[string]record.Content{"same.img": of(1), "changed.img": of(2), "new.img": of(3)}}
	next := of(9)
	before := map[string]record.Entry{
		"same.img": {Content: of(1), Orphaned: 5}, "changed.img": {Content: of(7), Orphaned: 5}, "new.img": {Orphaned: 5},
		"old.img": {Content: of(4), Orphaned: 5}, "future.img": {Content: of(4), Orphaned: now.Unix() + 1}, "gone.img": {Content: of(4)},
		"begun.img": {Content: of(4), Next: &next},
	}
	w := work(e, map[string]record.Content{"same.img": of(1), "changed.img": of(7)}, before)
	w.Plan = w.plan()
	r := &run{Work: w, record: record.Record{Files: maps.Clone(before)}}
	if err := r.enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	changed, created := of(2), of(3)
	want := maps.Clone(before)
	want["same.img"] = record.Entry{Content: of(1)}
	want["changed.img"] = record.Entry{Content: of(7), Next: &changed}
	want["new.img"] = record.Entry{Next: &created}
	there := w.store.(*noted)
	if got := there.record(t); !reflect.DeepEqual(got, want) {
		t.Errorf("entered are %+v\nwant %+v", got, want)
	}
	if err := r.settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	want = map[string]record.Entry{
		"same.img": {Content: of(1)}, "changed.img": {Content: of(2)}, "new.img": {Content: of(3)},
		"old.img": {Content: of(4), Orphaned: 5}, "future.img": {Content: of(4), Orphaned: now.Unix()}, "gone.img": {Content: of(4), Orphaned: now.Unix()},
		"begun.img": {Content: next, Orphaned: now.Unix()},
	}
	if got := there.record(t); !reflect.DeepEqual(got, want) {
		t.Errorf("settled are %+v\nwant %+v", got, want)
	}
}

// The rate is that of the last run that sent enough to measure it.
func TestSetRate(t *testing.T) {
	for _, c := range []struct {
		sent int64
		took time.Duration
		want float64
	}{{32 << 20, 2 * time.Second, 16 << 20}, {16 << 20, time.Second, 16 << 20}, {16<<20 - 1, time.Second, 5}, {32 << 20, 0, 5}} {
		r := &run{record: record.Record{Rate: 5}}
		r.sent.Store(c.sent)
		if r.setRate(c.took); r.record.Rate != c.want {
			t.Errorf("%d bytes in %v: %v, want %v", c.sent, c.took, r.record.Rate, c.want)
		}
	}
	// A run sets it.
	w := work(&edition{payload: map[string]record.Content{"a.img": of(32 << 20)}}, nil, nil)
	w.Plan = w.plan()
	if _, err := w.Run(t.Context(), func(context.Context) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if r, err := record.Parse([]byte(w.store.(*noted).files[record.Name])); err != nil || r.Rate <= 0 {
		t.Errorf("after a run: %v, %v", r.Rate, err)
	}
}
