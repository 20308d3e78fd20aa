package page

import (
	"fmt"
	"strings"

	"puavo-image-repository/meta"
)

// chart is a plot of the sizes of a series: a bar for each image, and in it one for the
// delta from the previous image. All lengths are in pixels.
type chart struct {
	Width, Height int
	Bars          []bar
	Most          size   // the top of the scale
	First, Last   string // dates
	Label         string
	Deltas        bool // some bar has one
	Left          int  // how many older images the plot leaves out
	step          int  // from bar to bar
}

type bar struct {
	X, Y, Width, Height int
	DeltaY, DeltaHeight int // 0 for no delta
	Title               string
}

// The measures of a chart.
const (
	maxBars   = 40
	maxWidth  = 40 // of a bar
	barStep   = 24 // from bar to bar, at least
	barTop    = 22
	barHeight = 120
	chartFoot = 24
	minWidth  = 220
)

// newChart returns the chart of a series, nil if it has fewer than two images.
func newChart(s *meta.Series) *chart {
	images := s.Images
	if len(images) < 2 {
		return nil
	}
	left := max(0, len(images)-maxBars)
	c := &chart{
		Width: max(minWidth, barStep*(len(images)-left)), Height: barTop + barHeight + chartFoot, Left: left,
		step:  max(barStep, minWidth/(len(images)-left)),
		First: dayOf(images[left].Name), Last: dayOf(s.Newest().Name),
	}
	most := int64(1)
	for _, im := range images[left:] {
		most = max(most, im.Sums.Size)
	}
	for i, im := range images[left:] {
		c.add(im, before(images, left+i), i, most)
	}
	c.Most = size(most)
	c.Label = fmt.Sprintf("Sizes of %d images of %s, from %s to %s; the largest has %s", len(c.Bars), s.Name, c.First, c.Last, c.Most)
	return c
}

// before returns the image before the i-th, nil for none.
func before(images []meta.Image, i int) *meta.Image {
	if i == 0 {
		return nil
	}
	return &images[i-1]
}

// add adds the i-th bar.
func (c *chart) add(im meta.Image, before *meta.Image, i int, most int64) {
	height := func(n int64) int { return max(1, int(float64(n)/float64(most)*barHeight+0.5)) }
	h := height(im.Sums.Size)
	width := min(maxWidth, c.step*2/3)
	b := bar{X: i*c.step + (c.step-width)/2, Y: barTop + barHeight - h, Width: width, Height: h}
	text := []string{im.Name.Version, size(im.Sums.Size).String()}
	if before != nil {
		if d, ok := im.Diff(before.Name); ok {
			b.DeltaHeight = min(h, height(d.Sums.Size))
			b.DeltaY = barTop + barHeight - b.DeltaHeight
			c.Deltas = true
			text = append(text, "delta "+size(d.Sums.Size).String())
		}
	}
	b.Title = strings.Join(text, ", ")
	c.Bars = append(c.Bars, b)
}
