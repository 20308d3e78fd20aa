package chart

import (
	"cmp"
	"errors"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Lines is a chart of lines, a panel each, beside each other.
type Lines struct {
	Title  string
	Panels []Line
}

// Line is a line through points whose x doubles from mark to mark: the axis is
// logarithmic. The other axis begins at 0.
type Line struct {
	XAxis, YAxis string    // what they are, and the unit
	X, Y         []float64 // of each point, in the order of X, which is above 0
	Marks        []string  // of each X, on the axis
	Level        float64   // where a dashed line is drawn, none if it is 0
	LevelText    string    // what that is
	// Name says at the end of the line which it is, and Others are more lines, over the same
	// points. Where there are any, points have no figures, but for the last of each.
	Name   string
	Others []Curve
}

// Curve is another line of a panel.
type Curve struct {
	Name string
	Y    []float64 // for each X of the panel
}

const (
	linesHeight = vg.Length(360)
	panelHeight = vg.Length(240) // of its axis, about
)

// SVG draws the chart.
func (l Lines) SVG(t Theme) ([]byte, error) {
	if len(l.Panels) == 0 {
		return nil, errors.New("a chart of lines without panels")
	}
	svg, c := t.canvas(l.Title, linesHeight)
	each := (c.Max.X - c.Min.X) / vg.Length(len(l.Panels))
	for i, line := range l.Panels {
		p, err := line.plot(t)
		if err != nil {
			return nil, err
		}
		tile := c
		tile.Min.X = c.Min.X + vg.Length(i)*each
		tile.Max.X = tile.Min.X + each - margin
		p.Draw(tile)
	}
	return finish(svg, l.Title)
}

// plot returns the plot of a panel. Its x are logarithms to the base of 2.
func (l Line) plot(t Theme) (*plot.Plot, error) {
	if len(l.X) == 0 || len(l.X) != len(l.Y) || len(l.X) != len(l.Marks) {
		return nil, errors.New("a line without points, or not a mark and two figures for each")
	}
	p := plot.New()
	t.frame(p)
	p.X.Label.Text, p.Y.Label.Text, p.Y.Tick.Marker = l.XAxis, l.YAxis, ticks(5)
	points, marks, highest := plotter.XYs{}, plot.ConstantTicks{}, l.Level
	for i, x := range l.X {
		at := plotter.XY{X: math.Log2(x), Y: l.Y[i]}
		points, marks, highest = append(points, at), append(marks, plot.Tick{Value: at.X, Label: l.Marks[i]}), max(highest, at.Y)
	}
	if highest == 0 {
		highest = 1
	}
	for _, c := range l.Others {
		if len(c.Y) != len(l.X) {
			return nil, errors.New("a line without a figure for each point")
		}
		highest = max(highest, slices.Max(c.Y))
	}
	p.X.Tick.Marker = marks
	p.X.Min, p.X.Max = points[0].X-0.3, points[len(points)-1].X+0.3
	p.Y.Min, p.Y.Max = 0, highest*1.15
	p.X.Padding = gap / 2
	grid := plotter.NewGrid()
	grid.Horizontal, grid.Vertical = t.gridLine(), draw.LineStyle{}
	p.Add(grid)
	if len(l.Others) > 0 {
		p.X.Max += float64(len(points)) * 0.2 // for the names
		return p, errors.Join(l.addLevel(p, t), l.addCurves(p, t, points))
	}
	return p, errors.Join(l.addLevel(p, t), addPoints(p, t, points))
}

// addCurves adds several lines, each with its name and its last figure at its end.
func (l Line) addCurves(p *plot.Plot, t Theme, points plotter.XYs) error {
	all := append([]Curve{{l.Name, l.Y}}, l.Others...)
	for i, c := range all {
		at := slices.Clone(points)
		for j := range at {
			at[j].Y = c.Y[j]
		}
		line, dots, err := plotter.NewLinePoints(at)
		if err != nil {
			return err
		}
		colour := t.others
		if i == 0 {
			colour = t.accent
		}
		line.LineStyle = draw.LineStyle{Color: colour, Width: 2}
		dots.GlyphStyle = draw.GlyphStyle{Color: colour, Radius: 3, Shape: draw.CircleGlyph{}}
		p.Add(line, dots)
	}
	end := points[len(points)-1].X
	slices.SortStableFunc(all, func(a, b Curve) int { return cmp.Compare(a.last(), b.last()) })
	heights := apart(all, p.Y.Max*float64(1.2*textSize/panelHeight))
	for i, c := range all {
		name := c.Name + ": " + figure(c.last())
		if err := addText(p, style(t.ink, textSize, text.XLeft), plotter.XY{X: end, Y: heights[i]}, vg.Point{X: gap, Y: textSize / 2}, name); err != nil {
			return err
		}
	}
	return nil
}

func (c Curve) last() float64 { return c.Y[len(c.Y)-1] }

// apart returns where the names of curves are, which are in the order of their ends: there, or as far
// above as those below need.
func apart(all []Curve, least float64) (heights []float64) {
	for i, c := range all {
		y := c.last()
		if i > 0 {
			y = max(y, heights[i-1]+least)
		}
		heights = append(heights, y)
	}
	return heights
}

// addLevel adds the dashed line.
func (l Line) addLevel(p *plot.Plot, t Theme) error {
	if l.Level == 0 {
		return nil
	}
	level, err := plotter.NewLine(plotter.XYs{{X: p.X.Min, Y: l.Level}, {X: p.X.Max, Y: l.Level}})
	if err != nil {
		return err
	}
	level.LineStyle = draw.LineStyle{Color: t.others, Width: 1.5, Dashes: []vg.Length{5, 4}}
	p.Add(level)
	return addText(p, style(t.faint, textSize, text.XLeft), plotter.XY{X: p.X.Min, Y: l.Level}, vg.Point{X: gap, Y: -textSize}, l.LevelText)
}

// addPoints adds a line through points, and the figure above each, on the side where
// the line is lower.
func addPoints(p *plot.Plot, t Theme, points plotter.XYs) error {
	line, dots, err := plotter.NewLinePoints(points)
	if err != nil {
		return err
	}
	line.LineStyle = draw.LineStyle{Color: t.accent, Width: 2}
	dots.GlyphStyle = draw.GlyphStyle{Color: t.accent, Radius: 4, Shape: draw.CircleGlyph{}}
	p.Add(line, dots)
	for i, at := range points {
		side, aside := text.XCenter, vg.Length(0)
		before, after := points[max(i-1, 0)], points[min(i+1, len(points)-1)]
		switch {
		case before.Y < after.Y:
			side, aside = text.XRight, gap/2
		case before.Y > after.Y:
			side, aside = text.XLeft, -gap/2
		}
		if err := addText(p, style(t.ink, textSize, side), at, vg.Point{X: aside, Y: gap + textSize/2}, figure(at.Y)); err != nil {
			return err
		}
	}
	return nil
}
