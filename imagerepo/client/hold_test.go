package client_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/imagerepo/internal/powercut"
	"puavo-image-repository/meta"
)

const (
	holdFile  = ".image_updates_hold"
	knownFile = ".image_updates_known"
)

// linked returns options with the default link and the labels.
func (p *place) linked(mirror, image string) client.Options {
	o := p.options(mirror, image)
	o.DefaultLink, o.GrubLabels = defaultLink, true
	return o
}

// installed returns a place in which images were put to use one after the other.
func installed(t testing.TB, images ...string) *place {
	t.Helper()
	p := newPlace(t, images...)
	mirror := access["directory"](t, "all")
	for _, im := range images {
		if _, err := client.Update(t.Context(), p.linked(mirror, im)); err != nil {
			t.Fatal(err)
		}
	}
	p.log.Reset()
	return p
}

// holds returns what the hold file says, by keys.
func (p *place) holds() map[string]string {
	lines := make(map[string]string)
	for line := range strings.Lines(p.files()[holdFile]) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		lines[key] = value
	}
	delete(lines, "since")
	return lines
}

// wantInUse checks which image is in use, and which is its backup.
func (p *place) wantInUse(what, image, backup string) {
	p.t.Helper()
	files := p.files()
	if files[defaultLink] != imageText(image) || files[backupLink] != imageText(backup) {
		p.t.Errorf("%s: in use is not %s, or its backup is not %s", what, image, backup)
	}
	p.wantLabels(label(image, "default"), label(backup, "backup"))
}

func TestRollback(t *testing.T) {
	spoil := func(image string) func(p *place) { return func(p *place) { p.write(image, flip(imageData(image))) } }
	forget := func(p *place) { p.write(knownFile, nil) }
	write := func(text string) func(p *place) { return func(p *place) { p.write(holdFile, []byte(text)) } }
	const held = "since 2022-01-21T08:30:00Z\nimage "
	for _, c := range []struct {
		name   string
		have   []string // put to use in this order
		before []func(p *place)
		image  string
		want   string // image in use afterwards
		from   string // of the hold, "" for one without an end
		warn   string
		err    error
		says   string
	}{
		{name: "the backup", have: []string{image1, image3, image4}, want: image3, from: image4},
		{name: "the backup, not the newest older one", have: []string{image3, image2, image4}, want: image2, from: image4},
		{name: "the backup is newer", have: []string{image2, image4, image3}, want: image2, from: image3},
		{name: "named", have: []string{image1, image3, image4}, image: image1, want: image1, from: image4},
		{name: "the backup is wrong", have: []string{image1, image3, image4}, before: []func(p *place){spoil(image3)}, want: image1, from: image4, warn: "damaged"},
		{name: "the only one is wrong", have: []string{image3, image4}, before: []func(p *place){spoil(image3)}, err: client.ErrNoImage, says: "contains no intact image"},
		{name: "named, and wrong", have: []string{image1, image3, image4}, before: []func(p *place){spoil(image3)}, image: image3, err: client.ErrVerify, says: image3},
		{name: "no digest is known", have: []string{image3, image4}, before: []func(p *place){forget}, want: image3, from: image4, warn: "no digest of it is known"},
		{name: "named, and no digest is known", have: []string{image3, image4}, before: []func(p *place){forget}, image: image3, want: image3, from: image4, warn: "no digest of it is known"},
		{name: "none is older", have: []string{image4}, err: client.ErrNoImage, says: "older than"},
		{name: "none is here", err: client.ErrNoImage},
		{name: "named, and not here", have: []string{image3, image4}, image: image1, err: client.ErrNoImage, says: image3 + ", " + image4},
		{name: "named, and in use", have: []string{image3, image4}, image: image4, says: "already in use"},
		{name: "named, and newer", have: []string{image4, image3}, image: image4, says: "is newer than"},
		{name: "named, newer, and left before", have: []string{image4, image3, image2}, before: []func(p *place){write(held + image2 + "\nfrom " + image4 + "\n")}, image: image3, want: image3, from: image4},
		{name: "again", have: []string{image1, image4, image3}, before: []func(p *place){write(held + image3 + "\nfrom " + image4 + "\n")}, want: image1, from: image4},
		{name: "held without an end", have: []string{image3, image4}, before: []func(p *place){write(held + image4 + "\n")}, want: image3},
		{name: "a damaged hold", have: []string{image3, image4}, before: []func(p *place){write("x")}, want: image3},
		{name: "updates are disabled", have: []string{image3, image4}, before: []func(p *place){func(p *place) { p.write(disable, nil) }}, want: image3, from: image4},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := installed(t, c.have...)
			for _, change := range c.before {
				change(p)
			}
			files := p.files()
			result, err := client.Rollback(t.Context(), p.linked("none", c.image))
			if c.want == "" {
				if err == nil || c.err != nil && !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%v, want %v that says %q", err, c.err, c.says)
				}
				p.want(files)
				return
			}
			if err != nil || result.Image != name(c.want) || !result.Installed || result.Held == nil || result.Held.Image != name(c.want) {
				t.Fatalf("%+v, %v", result, err)
			}
			p.wantInUse("afterwards", c.want, c.have[len(c.have)-1])
			want := map[string]string{"image": c.want, "from": c.from}
			maps.DeleteFunc(want, func(_, v string) bool { return v == "" })
			if got := p.holds(); !maps.Equal(got, want) {
				t.Errorf("held is %v, want %v", got, want)
			}
			warnings := slices.DeleteFunc(slices.Collect(strings.Lines(p.log.String())), func(line string) bool { return strings.Contains(line, "no GRUB environment block") })
			if log := strings.Join(warnings, ""); (log != "") != (c.warn != "") || !strings.Contains(log, c.warn) {
				t.Errorf("the log says %s", log)
			}
		})
	}
}

// A cancelled rollback is none, whenever that is.
func TestRollbackCancelled(t *testing.T) {
	for _, at := range []string{"before", "while it reads"} {
		p := installed(t, image3, image4)
		before := p.files()
		ctx, cancel := context.WithCancel(t.Context())
		o := p.linked("none", "")
		if at == "before" {
			cancel()
		}
		o.Stage = func(client.Stage) { cancel() }
		if _, err := client.Rollback(ctx, o); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", at, err)
		}
		p.want(before)
		for what, call := range map[string]func(context.Context, client.Options) (*client.Held, error){"hold": client.Hold, "unhold": client.Unhold} {
			if _, err := call(ctx, o); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", what, err)
			}
		}
		p.want(before)
		cancel()
	}
}

// A hold lasts until it is ended, or, after a rollback, until a newer image than the one
// that was left is offered.
func TestHeld(t *testing.T) {
	early, all := access["directory"](t, "early"), access["directory"](t, "all")
	p := newPlace(t, image1)
	update := func(mirror, image string) client.Result {
		t.Helper()
		result, err := client.Update(t.Context(), p.linked(mirror, image))
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	update(early, image1)
	update(early, "")
	must(client.Rollback(t.Context(), p.linked("none", "")))
	p.wantInUse("rolled back", image1, image2)

	for _, image := range []string{"", image2} {
		if r := update(early, image); r.Held == nil || r.UpToDate || r.Installed || r.Held.From != name(image2) || !slices.Equal(r.Held.Missed, []meta.Name{name(image2)}) || r.Fetched == 0 {
			t.Errorf("update %q while held: %+v, %+v", image, r, r.Held)
		}
	}
	for call, look := range map[string]func(context.Context, client.Options) (client.Plan, error){"check": client.Check, "plan": client.NewPlan} {
		if p := must(look(t.Context(), p.linked(early, ""))); p.Held == nil || p.Held.Image != name(image1) || p.UpToDate {
			t.Errorf("%s while held: %+v", call, p)
		}
		if p := must(look(t.Context(), p.linked(all, ""))); p.Held != nil || p.UpToDate {
			t.Errorf("%s with a newer one: %+v", call, p)
		}
	}
	if s := must(client.Look(p.linked("none", ""))); s.InUse != name(image1) || s.Held == nil || s.Held.From != name(image2) {
		t.Errorf("the status is %+v", s)
	}
	p.wantInUse("held", image1, image2)

	if r := update(all, ""); r.Held != nil || !r.Made || !r.Installed || r.Image != name(image4) {
		t.Errorf("a newer one: %+v", r)
	}
	p.wantInUse("with a newer one", image4, image1)
	if _, held := p.files()[holdFile]; held {
		t.Error("the hold has not ended")
	}

	// Without an end.
	must(client.Rollback(t.Context(), p.linked("none", image1)))
	if h := must(client.Hold(t.Context(), p.linked("none", ""))); h.Image != name(image1) || h.From != (meta.Name{}) {
		t.Errorf("held is %+v", h)
	}
	if r := update(all, ""); r.Held == nil || r.Installed || !slices.Equal(r.Held.Missed, []meta.Name{name(image2), name(image3), name(image4)}) {
		t.Errorf("held without an end: %+v", r)
	}
	if h := must(client.Unhold(t.Context(), p.linked("none", ""))); h == nil || h.Image != name(image1) {
		t.Errorf("what ended is %+v", h)
	}
	if h := must(client.Unhold(t.Context(), p.linked("none", ""))); h != nil {
		t.Errorf("what ended twice is %+v", h)
	}
	if r := update(all, ""); r.Held != nil || r.Made || !r.Installed {
		t.Errorf("after the hold: %+v", r)
	}
	p.wantInUse("after the hold", image4, image1)
}

// Holding again changes nothing but the end; a damaged record is written again.
func TestHoldAgain(t *testing.T) {
	p := installed(t, image3, image4)
	o := p.linked("none", "")
	const since = "since 2022-01-21T08:30:00Z\n"
	for _, c := range []struct{ before, link, want string }{
		{"", defaultLink, "image " + image4 + "\n"},
		{since + "image " + image4 + "\n", defaultLink, since + "image " + image4 + "\n"},
		{since + "image " + image3 + "\nfrom " + image4 + "\n", "", since + "image " + image3 + "\n"},
		{since + "image " + image3 + "\nfrom " + image4 + "\n", defaultLink, since + "image " + image4 + "\n"}, // someone has moved the link
		{"x", defaultLink, "image " + image4 + "\n"},
	} {
		os.Remove(filepath.Join(p.dir, holdFile))
		if c.before != "" {
			p.write(holdFile, []byte(c.before))
		}
		o.DefaultLink, o.GrubLabels = c.link, false
		if _, err := client.Hold(t.Context(), o); err != nil || !strings.HasSuffix(p.files()[holdFile], c.want) || p.files()[holdFile][:6] != "since " {
			t.Errorf("%q becomes %q, %v; want %q", c.before, p.files()[holdFile], err, c.want)
		}
	}
	empty := newPlace(t)
	if _, err := client.Hold(t.Context(), empty.linked("none", "")); !errors.Is(err, client.ErrNoImage) || len(empty.files()) > 0 {
		t.Errorf("without an image: %v", err)
	}
}

// The record alone holds: neither its damage nor the loss of what is known of images ends a
// hold, and a mirror that does not answer is noticed all the same.
func TestHoldStays(t *testing.T) {
	all := access["directory"](t, "all")
	for what, c := range map[string]struct {
		change func(p *place)
		says   string
	}{
		"the digest cache is gone":    {func(p *place) { os.Remove(filepath.Join(p.dir, knownFile)) }, ""},
		"the digest cache is damaged": {func(p *place) { p.write(knownFile, []byte("{")) }, ""},
		"the hold is damaged":         {func(p *place) { p.write(holdFile, []byte("sin")) }, "unhold to remove it"},
		"the hold is empty":           {func(p *place) { p.write(holdFile, nil) }, "run hold to write it again"},
	} {
		p := installed(t, image1, image3)
		must(client.Hold(t.Context(), p.linked("none", "")))
		c.change(p)
		for _, image := range []string{"", image4} {
			result, err := client.Update(t.Context(), p.linked(all, image))
			if err != nil || result.Held == nil || result.Held.Image != name(image3) || result.Installed || !strings.Contains(result.Held.Damage, c.says) || (c.says == "") != (result.Held.Damage == "") {
				t.Errorf("%s: %+v, %v", what, result.Held, err)
			}
		}
		if r := must(client.List(t.Context(), p.linked(all, ""))); !r[2].Held || !r[3].Missed || r[1].Missed || r[1].Held || r[4].Missed {
			t.Errorf("%s: listed are %+v", what, r)
		}
		p.wantInUse(what, image3, image1)
		if _, err := client.Update(t.Context(), p.linked(filepath.Join(t.TempDir(), "none"), "")); err == nil {
			t.Errorf("%s: a mirror that is gone is not noticed", what)
		}
	}
}

// What a hold keeps is not removed, though newer images are there.
func TestHoldKeepsFiles(t *testing.T) {
	for _, held := range []bool{false, true} {
		p := newPlace(t, image1, image2, image3)
		o := p.options(access["directory"](t, "all"), "")
		want := p.files()
		delete(want, image1)
		if held {
			p.write(holdFile, []byte("since 2022-01-21T08:30:00Z\nimage "+image2+"\n"))
			want[holdFile] = p.files()[holdFile]
		} else {
			delete(want, image2)
			delete(want, image3)
			want[image4] = imageText(image4)
			want[image3] = imageText(image3) // the base
		}
		o.Keep = 1
		if _, err := client.Update(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		p.want(want)
	}
}

// What a rollback has left to do, a hook that failed or the rest after a kill, the next
// rollback does, or the next update.
func TestRollbackGoesOn(t *testing.T) {
	for _, c := range []struct{ pre, post, inUse string }{
		{"false", "", image4},
		{"", "false", image3},
	} {
		for _, by := range []string{"update", "rollback"} {
			p := installed(t, image2, image3, image4)
			o := p.linked(access["directory"](t, "all"), "")
			o.PreInstall, o.PostInstall = c.pre, c.post
			if _, err := client.Rollback(t.Context(), o); err == nil {
				t.Fatal("a hook that fails is no error")
			}
			if p.files()[defaultLink] != imageText(c.inUse) {
				t.Errorf("%+v: not %s is in use", c, c.inUse)
			}
			o.PreInstall, o.PostInstall = "true", "true"
			call := map[string]func(context.Context, client.Options) (client.Result, error){"update": client.Update, "rollback": client.Rollback}[by]
			if r, err := call(t.Context(), o); err != nil || !r.Installed || r.Held == nil || r.Held.Image != name(image3) || r.Held.From != name(image4) {
				t.Errorf("%+v, by %s: %+v, %v", c, by, r, err)
			}
			p.wantInUse(by, image3, image4)
		}
	}
}

// Whenever the power is cut, a rollback has not begun, or is held and completed by the next
// update.
func TestRollbackPowerCut(t *testing.T) {
	t.Parallel()
	all := access["directory"](t, "all")
	images := map[string][]byte{image3: imageData(image3), image4: imageData(image4)}
	p := installed(t, image3, image4)
	var trees []powercut.Tree
	disk := powercut.Watch(t, p.dir, func(next atomicfile.Change, now func() []powercut.Tree) error {
		for _, tree := range now() {
			if err := wholeImages(tree, images); err != nil {
				t.Errorf("before %s: %v", next, err)
			}
		}
		trees = append(trees, now()[:2]...)
		return nil
	})
	must(client.Rollback(t.Context(), p.linked("none", "")))
	disk.Stop()
	for _, tree := range disk.Trees() {
		if tree[holdFile] == nil || !bytes.Equal(tree[defaultLink].Data, images[image3]) || tree[label(image3, "default")] == nil {
			t.Error("what the rollback has done does not last")
		}
	}
	begun := 0
	for i, tree := range trees {
		after := newPlaceIn(t, t.TempDir())
		if err := tree.Lay(after.dir); err != nil {
			t.Fatal(err)
		}
		want := image4
		if tree[holdFile] != nil {
			begun++
			want = image3
			if after.holds()["from"] != image4 {
				t.Errorf("after cut %d the hold is %q", i, after.files()[holdFile])
			}
		}
		if _, err := client.Update(t.Context(), after.linked(all, "")); err != nil {
			t.Errorf("after cut %d: %v", i, err)
		}
		if after.files()[defaultLink] != string(images[want]) {
			t.Errorf("after cut %d not %s is in use", i, want)
		}
	}
	if begun == 0 || begun == len(trees) {
		t.Errorf("of %d cuts, %d were after the hold was noted", len(trees), begun)
	}
}

// Whenever the power is cut, the run that ends a hold has ended it, or the next one does,
// with the newer image in use.
func TestHoldEndsPowerCut(t *testing.T) {
	t.Parallel()
	all := access["directory"](t, "all")
	p := installed(t, image1, image2)
	must(client.Rollback(t.Context(), p.linked("none", "")))
	var trees []powercut.Tree
	disk := powercut.Watch(t, p.dir, func(next atomicfile.Change, now func() []powercut.Tree) error {
		if next.Kind != atomicfile.Flush || next.Name == image4+".tmp" {
			trees = append(trees, now()[:2]...)
		}
		return nil
	})
	if _, err := client.Update(t.Context(), p.linked(all, "")); err != nil {
		t.Fatal(err)
	}
	disk.Stop()
	for _, tree := range trees {
		if inUse := tree[defaultLink].Data; tree[holdFile] == nil && !bytes.Equal(inUse, imageData(image4)) {
			t.Error("the hold ends before the newer image is in use")
		}
	}
	for _, tree := range trees[len(trees)-10:] {
		after := newPlaceIn(t, t.TempDir())
		if err := tree.Lay(after.dir); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Update(t.Context(), after.linked(all, "")); err != nil {
			t.Error(err)
		}
		if f := after.files(); f[defaultLink] != imageText(image4) || f[holdFile] != "" {
			t.Error("the next run does not end the hold")
		}
	}
}

// A mirror that is frozen is noticed while updates are held.
func TestHeldTrust(t *testing.T) {
	s := newSigned(t)
	p := newPlace(t, image3)
	o := p.options(s.dir, "")
	o.Trust = s.root()
	must(client.Hold(t.Context(), o))
	if r, err := client.Update(t.Context(), o); err != nil || r.Held == nil || r.Installed {
		t.Fatalf("%+v, %v", r, err)
	}
	if seen, err := os.ReadDir(filepath.Join(p.dir, ".trust")); err != nil || len(seen) == 0 {
		t.Errorf("nothing is recorded: %v", err)
	}
	os.RemoveAll(s.path("tuf"))
	signing := s.options()
	signing.Now = func() time.Time { return time.Now().AddDate(0, 0, -31) }
	signing.IgnoreClock = true
	s.signAs(signing)
	if _, err := client.Update(t.Context(), o); !errors.Is(err, client.ErrUntrusted) {
		t.Errorf("what has expired is taken for news: %v", err)
	}
}
