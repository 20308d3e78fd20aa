// Package chart draws charts as SVG, for light and for dark surroundings: bars
// beside their values, and lines through labelled points. The same figures make the
// same bytes.
package chart

import (
	"bytes"
	"fmt"
	"html"
	"image/color"
	"regexp"
	"strings"

	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"gonum.org/v1/plot"
)

// Theme is a set of colours that go together.
type Theme struct {
	Name                 string // a part of the file's name
	ground, ink, faint   color.Color
	grid, accent, others color.Color
}

// Themes are those of the two modes that browsers know. Each text has a contrast of
// 4.5 or more to the ground, and each mark 3 or more.
var Themes = []Theme{
	{"light", rgb(0xffffff), rgb(0x1f2328), rgb(0x59636e), rgb(0xd8dee4), rgb(0x0969da), rgb(0x818b98)},
	{"dark", rgb(0x0d1117), rgb(0xe6edf3), rgb(0x9aa4af), rgb(0x30363d), rgb(0x4493f8), rgb(0x6e7681)},
}

func rgb(v uint32) color.Color {
	return color.NRGBA{uint8(v >> 16), uint8(v >> 8), uint8(v), 0xff}
}

// Sizes of all charts, in pixels.
const (
	width       = vg.Length(840)
	margin      = vg.Length(16)
	titleHeight = vg.Length(34)
	titleSize   = vg.Length(16)
	textSize    = vg.Length(12)
	gap         = vg.Length(8) // between a mark and its text
)

// style returns a style of text in a colour. Its line stands at the middle of a
// point's height.
func style(c color.Color, size vg.Length, x text.XAlignment) text.Style {
	return text.Style{
		Color: c, Font: font.From(font.Font{Typeface: "Liberation", Variant: "Sans"}, size),
		XAlign: x, YAlign: text.YCenter, Handler: anchored{text.Plain{Fonts: font.DefaultCache}},
	}
}

// anchored draws texts that begin, end or have their middle at a point by the anchors
// of SVG, where text.Plain would always say where they begin, by the widths of a font
// that the reader may not have. It marks them for finish.
type anchored struct{ text.Plain }

const endMark, middleMark = "\ue000", "\ue001"

// Draw implements text.Handler.
func (a anchored) Draw(c vg.Canvas, txt string, s text.Style, at vg.Point) {
	switch {
	case txt == "":
		return
	case s.XAlign == text.XRight:
		txt = endMark + txt
	case s.XAlign == text.XCenter:
		txt = middleMark + txt
	}
	s.XAlign = text.XLeft
	a.Plain.Draw(c, txt, s, at)
}

// canvas returns an empty canvas with a title, and the part below that.
func (t Theme) canvas(title string, height vg.Length) (*vgsvg.Canvas, draw.Canvas) {
	svg := vgsvg.New(width, height)
	whole := draw.New(svg)
	whole.FillPolygon(t.ground, []vg.Point{{}, {X: width}, {X: width, Y: height}, {Y: height}})
	whole.FillText(style(t.ink, titleSize, text.XLeft), vg.Point{X: margin, Y: height - margin - titleSize/2}, title)
	return svg, draw.Crop(whole, margin, -margin, margin, -margin-titleHeight)
}

// frame sets what all plots have: a grid behind the marks instead of axes' lines,
// and quiet texts.
func (t Theme) frame(p *plot.Plot) {
	p.BackgroundColor = nil
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.LineStyle.Width, a.Tick.LineStyle.Width, a.Tick.Length = 0, 0, 0
		a.Padding = 0
		a.Label.TextStyle = style(t.faint, textSize, text.XCenter)
		a.Tick.Label = style(t.faint, textSize, text.XCenter)
		a.Label.Padding = 4
	}
	p.X.Tick.Label.YAlign, p.X.Label.TextStyle.YAlign = text.YTop, text.YBottom
	p.Y.Tick.Label.XAlign, p.Y.Label.TextStyle.YAlign = text.XRight, text.YBottom
}

// gridLine returns the style of the lines of a grid.
func (t Theme) gridLine() draw.LineStyle { return draw.LineStyle{Color: t.grid, Width: 1} }

var (
	svgTag  = regexp.MustCompile(`(?s)(<svg width="[0-9.]+)pt(" height="[0-9.]+)pt([^>]*>\n)`)
	comment = regexp.MustCompile(`<!--.*-->\n`)
	marked  = regexp.MustCompile(`<text ([^>]*)>(` + endMark + `|` + middleMark + `)`)
	anchors = map[string]string{endMark: "end", middleMark: "middle"}
)

// finish returns the file: in pixels, with its title for those who do not see it, and
// with fonts of the same widths where Liberation is not installed.
func finish(svg *vgsvg.Canvas, title string) ([]byte, error) {
	var b bytes.Buffer
	if _, err := svg.WriteTo(&b); err != nil {
		return nil, fmt.Errorf("draw %s: %w", title, err)
	}
	out := comment.ReplaceAllString(b.String(), "")
	out = marked.ReplaceAllStringFunc(out, func(tag string) string {
		m := marked.FindStringSubmatch(tag)
		return `<text text-anchor="` + anchors[m[2]] + `" ` + m[1] + `>`
	})
	out = svgTag.ReplaceAllString(out, "${1}${2}${3}<title>"+strings.ReplaceAll(html.EscapeString(title), "$", "$$")+"</title>\n")
	return []byte(strings.ReplaceAll(out, "font-family:Liberation Sans;", "font-family:'Liberation Sans',Arial,Helvetica,sans-serif;")), nil
}
