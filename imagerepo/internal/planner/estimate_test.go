package planner

import (
	"testing"

	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/internal/budget"
	"puavo-image-repository/imagerepo/internal/meter"
	"puavo-image-repository/imagerepo/plan"
)

const gib = 1 << 30

func image(file string, a plan.Action, read bool) plan.Image {
	return plan.Image{Name: name(file), File: file, Size: gib, Action: a, Read: read}
}

func copied(im plan.Image) plan.Image { im.Copied = true; return im }

func signed(im plan.Image) plan.Image { im.Sign = true; return im }

func deltaOf(base, target string, a plan.Action, size int64) plan.Delta {
	return plan.Delta{Base: name(base), Target: name(target), Action: a, Size: size, TargetSize: gib, BaseSize: gib}
}

func TestEstimate(t *testing.T) {
	signature := delta.SignatureSize(gib)
	b, err := budget.New(4*gib, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name              string
		plan              plan.Plan
		copies            int64
		read, write, work int64
	}{
		{"nothing", plan.Plan{}, 0, 0, 0, 0},
		{"nothing to do", plan.Plan{
			Images: []plan.Image{image(image1, plan.Keep, false), image(image2, plan.Keep, false)},
			Deltas: []plan.Delta{deltaOf(image1, image2, plan.Keep, gib/8)},
		}, 0, 0, 0, 0},
		{"first run", plan.Plan{
			Images: []plan.Image{image(image1, plan.Link, true), image(image2, plan.Link, true)},
			Deltas: []plan.Delta{deltaOf(image1, image2, plan.Make, 0)},
		}, 0, 5*gib + gib/3, gib / 3, 6 * gib},
		{"first run on two disks", plan.Plan{
			Images: []plan.Image{copied(image(image1, plan.Link, true)), copied(image(image2, plan.Link, true))},
			Deltas: []plan.Delta{deltaOf(image1, image2, plan.Make, 0)},
		}, 2 * gib, 7*gib + gib/3, 2*gib + gib/3, 6 * gib},
		{"one of two disks", plan.Plan{
			Images: []plan.Image{copied(image(image1, plan.Replace, true)), image(image2, plan.Link, true)},
		}, gib, 3 * gib, gib, 4 * gib},
		{"a new image", plan.Plan{
			Images: []plan.Image{image(image1, plan.Keep, false), image(image2, plan.Keep, false), image(image3, plan.Link, true)},
			Deltas: []plan.Delta{deltaOf(image1, image2, plan.Keep, gib/8), deltaOf(image2, image3, plan.Make, 0), deltaOf(image2, image3, plan.Drop, 0)},
		}, 0, 4*gib + gib/8, gib / 8, 4 * gib},
		{"an adopted mirror", plan.Plan{
			Images: []plan.Image{image(image1, plan.Keep, true), image(image2, plan.Keep, true)},
			Deltas: []plan.Delta{deltaOf(image1, image2, plan.Check, 0)},
		}, 0, 4 * gib, 0, 4 * gib},
		{"images that left", plan.Plan{
			Images: []plan.Image{image(image1, plan.Retired, false), signed(image(image2, plan.Retired, false))},
			Deltas: []plan.Delta{deltaOf(image1, image3, plan.Keep, gib/8), deltaOf(image2, image3, plan.Keep, gib/8)},
		}, 0, gib, signature, gib},
	} {
		s := b.Schedule(c.plan, 1<<40)
		e := volume(c.plan, s)
		if e.Read != c.read || e.Copies != c.copies || e.Write != c.write || e.Space != c.write || Remaining(c.plan) != c.work {
			t.Errorf("%s: %+v, work %d; want read %d, write %d, work %d", c.name, e, Remaining(c.plan), c.read, c.write, c.work)
		}
	}
}

// Where memory is scarce, no delta is read again for its digests.
func TestEstimateScarce(t *testing.T) {
	const gib = 1 << 30
	b, err := budget.New(4*gib, 2)
	if err != nil {
		t.Fatal(err)
	}
	for action, size := range map[plan.Action]int64{plan.Make: 0, plan.Check: gib / 3} {
		p := plan.Plan{Deltas: []plan.Delta{{Base: name(image1), Target: name(image2), Action: action, Size: size, BaseSize: gib, TargetSize: gib}}}
		enough, scarce := volume(p, b.Schedule(p, 1<<40)).Read, volume(p, b.Schedule(p, gib)).Read
		if enough-scarce != gib/3 {
			t.Errorf("%s: %d bytes are read, and %d where memory is scarce", action, enough, scarce)
		}
	}
}

// Work is what is read, made and verified, by its cost. Links, and what is kept, are none.
func TestWork(t *testing.T) {
	touched := func(im plan.Image) plan.Image { im.Touched = true; return im }
	retired := func(d plan.Delta) plan.Delta { d.Retired = true; return d }
	const sums = gib * meter.Digest / 3 // of a delta of a usual size, rounded down
	for _, c := range []struct {
		name string
		plan plan.Plan
		want int64
	}{
		{"nothing", plan.Plan{}, 0},
		{"links", plan.Plan{Images: []plan.Image{image(image1, plan.Link, false), image(image2, plan.Replace, false)}}, 0},
		{"what is kept", plan.Plan{
			Images: []plan.Image{image(image1, plan.Keep, false)},
			Deltas: []plan.Delta{deltaOf(image1, image2, plan.Keep, gib/8), deltaOf(image1, image3, plan.Drop, 0), deltaOf(image1, image3, plan.Await, gib/8)},
		}, 0},
		{"images", plan.Plan{Images: []plan.Image{
			image(image1, plan.Link, true), copied(image(image1, plan.Link, true)), touched(image(image2, plan.Keep, true)),
			image(image2, plan.Check, true), signed(image(image3, plan.Retired, false)),
		}}, gib * (meter.Digest + meter.Copy + meter.Digest + meter.Compare + meter.Compare + meter.Digest + meter.Sign)},
		{"deltas of one base", plan.Plan{Deltas: []plan.Delta{deltaOf(image1, image2, plan.Make, 0), deltaOf(image1, image3, plan.Await, 0)}},
			gib*(meter.Index+2*(meter.Diff+meter.Verify)) + 2*sums},
		{"a delta that is checked", plan.Plan{Deltas: []plan.Delta{deltaOf(image1, image2, plan.Check, gib/8)}}, gib*meter.Verify + sums},
		{"by a signature", plan.Plan{Deltas: []plan.Delta{retired(deltaOf(image1, image2, plan.Make, 0))}}, gib*(meter.Diff+meter.Verify) + sums},
	} {
		if got := Work(c.plan, meter.Digest); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// Cores that wait while others read make a byte cost more.
func TestReadCost(t *testing.T) {
	read := func(n int) (p plan.Plan) {
		for range n {
			p.Images = append(p.Images, image(image1, plan.Link, true))
		}
		p.Images = append(p.Images, image(image2, plan.Keep, false))
		return p
	}
	for _, c := range []struct {
		images, readers, cores int
		want                   int64
	}{
		{0, 4, 2, meter.Digest},
		{1, 4, 1, meter.Digest},
		{1, 4, 2, 2 * meter.Digest},
		{2, 4, 2, meter.Digest},
		{2, 1, 2, 2 * meter.Digest},
		{3, 4, 2, 4 * meter.Digest / 3},
		{4, 4, 8, 2 * meter.Digest},
	} {
		if got := ReadCost(read(c.images), c.readers, c.cores); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}
