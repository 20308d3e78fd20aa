package source

import (
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/client/internal/cost"
	"puavo-image-repository/imagerepo/client/internal/imagedir"
	"puavo-image-repository/imagerepo/client/internal/route"
	"puavo-image-repository/imagerepo/internal/assemble"
	"puavo-image-repository/meta"
)

// withCompact adds compact deltas to the last image of a series, from these images; 0 is a
// full one.
func withCompact(s *meta.Series, size int64, from ...int) *meta.Series {
	im := s.Newest()
	for _, n := range from {
		c := meta.Compact{Coded: 1, File: meta.File{Sums: cksum.Sums{Size: size, SHA512: digest(5000 + n)}}}
		if n > 0 {
			c.Base = version(n)
		}
		c.Filename = meta.CompactName(c.Base, im.Name)
		im.Compact = append(im.Compact, c)
	}
	return s
}

// kinds says of what kinds the steps of a route are.
func kinds(r route.Route) (all string) {
	for _, s := range r.Steps {
		switch {
		case s.IsFull():
			all += "full "
		case s.Diff != nil:
			all += "rdiff "
		case s.Base() == meta.Name{}:
			all += "compact full "
		default:
			all += "compact "
		}
	}
	return all
}

func TestCompactChoice(t *testing.T) {
	a := open(t, "https://a")
	slow, fast := cost.Model{Known: cost.Known{Rate: 1e4}}, cost.Model{Known: cost.Known{Rate: 1e9}}
	for _, c := range []struct {
		name       string
		series     *meta.Series
		bases      []int
		model      cost.Model
		stored     map[string]int64
		downgrades bool
		fails      []error // of the routes before
		want       string
	}{
		{"smaller", withCompact(seriesOf(image{1, 1, nil}, image{2, 2, []int{1}}), deltaSize/2, 1), []int{1}, slow, nil, false, nil, "compact "},
		{"smaller, for traffic", withCompact(seriesOf(image{1, 1, nil}, image{2, 2, []int{1}}), deltaSize/2, 1), []int{1}, cost.Model{Traffic: true}, nil, false, nil, "compact "},
		{"smaller, on a fast line", withCompact(seriesOf(image{1, 1, nil}, image{2, 2, []int{1}}), deltaSize/2, 1), []int{1}, fast, nil, false, nil, "rdiff "},
		{"larger", withCompact(seriesOf(image{1, 1, nil}, image{2, 2, []int{1}}), 2*deltaSize, 1), []int{1}, slow, nil, false, nil, "rdiff "},
		{"alone", withCompact(seriesOf(image{1, 1, nil}, image{2, 2, nil}), deltaSize, 1), []int{1}, cost.Model{}, nil, false, nil, "compact "},
		{"full", withCompact(seriesOf(image{1, 1, nil}, image{2, 2, nil}), imageSize/2, 0), nil, slow, nil, false, nil, "compact full "},
		{"after an rdiff delta", withCompact(seriesOf(image{1, 1, nil}, image{2, 2, []int{1}}, image{3, 3, nil}), deltaSize, 2), []int{1}, slow, nil, false, nil, "rdiff compact "},
		{"from a newer one", withCompact(seriesOf(image{2, 2, nil}, image{1, 1, nil}), deltaSize, 2), []int{2}, slow, nil, false, nil, "full "},
		{"from a newer one that is allowed", withCompact(seriesOf(image{2, 2, nil}, image{1, 1, nil}), deltaSize, 2), []int{2}, slow, nil, true, nil, "compact "},
		{"none in the images directory", withCompact(seriesOf(image{1, 1, nil}, image{2, 2, nil}), deltaSize, 0, 1), []int{1}, slow, map[string]int64{}, false, nil, ""},
		{"wrong", withCompact(seriesOf(image{1, 1, nil}, image{2, 2, []int{1}}), deltaSize/2, 1), []int{1}, slow, nil, false, []error{assemble.ErrVerify}, "rdiff "},
		{"both wrong", withCompact(seriesOf(image{1, 1, nil}, image{2, 2, []int{1}}), deltaSize/2, 1), []int{1}, slow, nil, false, []error{assemble.ErrVerify, assemble.ErrVerify}, "full "},
	} {
		var bases []imagedir.Image
		for _, n := range c.bases {
			bases = append(bases, imagedir.Image{Name: version(n), Size: imageSize})
		}
		images := Index(c.series)
		choice := Choice{
			Wanted: &Wanted{c.series, c.series.Newest(), images}, Sources: Sources{{Mirror: a, Images: images, Stored: c.stored}},
			Bases: bases, Failures: NewFailures(nil), Downgrades: c.downgrades, Steps: route.MaxSteps, Model: c.model,
		}
		for _, err := range c.fails {
			r, _ := choice.Route()
			choice.Failures.Add(r.Steps[len(r.Steps)-1], err)
		}
		r, _ := choice.Route()
		if got := kinds(r); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if has := choice.Sources.HasCompact(choice.Wanted); has != (c.stored == nil) {
			t.Errorf("%s: has compact deltas: %v", c.name, has)
		}
		for i, takes := range choice.Takes(r) {
			if s := r.Steps[i]; takes.Fetch <= 0 || takes.Fetch != takes.Size || takes.Makes != imageSize || takes.Compact != (s.Compact != nil) || (takes.Coded == 1) != takes.Compact {
				t.Errorf("%s: step %d takes %+v", c.name, i, takes)
			}
		}
	}
}
