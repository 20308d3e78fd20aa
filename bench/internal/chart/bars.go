package chart

import (
	"errors"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Bars is a chart of horizontal bars: a row for each thing that is compared, and
// panels beside each other for the figures of these.
type Bars struct {
	Title  string
	Rows   []string // names, from the top
	Ours   []bool   // which rows stand out
	Panels []Panel
}

// Panel is a column of bars.
type Panel struct {
	Axis   string    // what it is, and the unit
	Values []float64 // one for each row, 0 or more; NaN where there is none
}

const (
	rowHeight  = vg.Length(24)
	barHeight  = vg.Length(14)
	axisHeight = vg.Length(38)
	valueWidth = vg.Length(42) // of the text behind a bar
)

// SVG draws the chart.
func (b Bars) SVG(t Theme) ([]byte, error) {
	if len(b.Rows) == 0 || len(b.Panels) == 0 {
		return nil, errors.New("a chart of bars without rows or panels")
	}
	svg, c := t.canvas(b.Title, 2*margin+titleHeight+vg.Length(len(b.Rows))*rowHeight+axisHeight)
	names := style(t.ink, textSize, text.XRight)
	gutter := vg.Length(0)
	for _, r := range b.Rows {
		gutter = max(gutter, names.Width(r))
	}
	gutter += gap
	each := (c.Max.X - c.Min.X - gutter) / vg.Length(len(b.Panels))
	for i, panel := range b.Panels {
		tile := c
		tile.Min.X = c.Min.X + gutter + vg.Length(i)*each
		tile.Max.X = tile.Min.X + each - margin
		p, err := b.plot(t, panel, tile.Max.X-tile.Min.X)
		if err != nil {
			return nil, err
		}
		p.Draw(tile)
		if i == 0 {
			within := p.DataCanvas(tile)
			_, y := p.Transforms(&within)
			for j, r := range b.Rows {
				c.FillText(names, vg.Point{X: c.Min.X + gutter - gap, Y: y(-float64(j))}, r)
			}
		}
	}
	return finish(svg, b.Title)
}

// plot returns the plot of a panel, which is so wide.
func (b Bars) plot(t Theme, panel Panel, wide vg.Length) (*plot.Plot, error) {
	p := plot.New()
	t.frame(p)
	p.HideY()
	largest := 0.0
	for _, v := range panel.Values {
		if !math.IsNaN(v) {
			largest = max(largest, v)
		}
	}
	if largest == 0 {
		largest = 1
	}
	p.X.Label.Text, p.X.Tick.Marker = panel.Axis, ticks(4)
	p.X.Min, p.X.Max = 0, largest*float64(wide/(wide-valueWidth))
	p.Y.Min, p.Y.Max = 0.25-float64(len(b.Rows)), 0.5
	grid := plotter.NewGrid()
	grid.Vertical, grid.Horizontal = t.gridLine(), draw.LineStyle{}
	p.Add(grid)
	for i, v := range panel.Values {
		if err := b.addBar(p, t, i, v); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// addBar adds the bar of a row, with its figure behind it.
func (b Bars) addBar(p *plot.Plot, t Theme, row int, v float64) error {
	end := v
	if math.IsNaN(v) {
		end = 0
	}
	bar, err := plotter.NewBarChart(plotter.Values{end}, barHeight)
	if err != nil {
		return err
	}
	bar.Horizontal, bar.XMin, bar.LineStyle.Width, bar.Color = true, -float64(row), 0, t.others
	if row < len(b.Ours) && b.Ours[row] {
		bar.Color = t.accent
	}
	p.Add(bar)
	return addText(p, style(t.ink, textSize, text.XLeft), plotter.XY{X: end, Y: -float64(row)}, vg.Point{X: gap / 2}, figure(v))
}

// addText adds a text at a point of a plot.
func addText(p *plot.Plot, s text.Style, at plotter.XY, offset vg.Point, what string) error {
	l, err := plotter.NewLabels(plotter.XYLabels{XYs: plotter.XYs{at}, Labels: []string{what}})
	if err != nil {
		return err
	}
	l.TextStyle[0], l.Offset = s, offset
	p.Add(l)
	return nil
}
