package chart

import (
	"bytes"
	"encoding/xml"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
)

var bars = Bars{
	Title: "Speed & size", Rows: []string{"theirs <1>", "ours"}, Ours: []bool{false, true},
	Panels: []Panel{{"time, seconds", []float64{46.94, 2.68}}, {"size, MB", []float64{math.NaN(), 1234.5}}},
}

var lines = Lines{Title: "Growth", Panels: []Line{
	{XAxis: "size, GB", YAxis: "time, seconds", X: []float64{1, 2, 16}, Y: []float64{2, 4.4, 51.26}, Marks: []string{"one", "two", "sixteen"}},
	{XAxis: "memory", YAxis: "passes", X: []float64{700, 900}, Y: []float64{10.7, 1}, Marks: []string{"700", "900"}, Level: 1, LevelText: "once"},
}}

var curves = Lines{Title: "Farm", Panels: []Line{{
	XAxis: "workers", YAxis: "times faster", X: []float64{1, 2, 4}, Y: []float64{1.5, 2.5, 4.25}, Marks: []string{"1", "2", "4"},
	Name: "25 Gbit/s", Others: []Curve{{"1 Gbit/s", []float64{1, 1.1, 6.5}}},
}}}

// texts returns the texts of an SVG in their order, and what anchors them.
func texts(t *testing.T, svg []byte) (all []string) {
	t.Helper()
	anchor, inside := "", false
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		token, err := d.Token()
		if err == io.EOF {
			return all
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
		switch e := token.(type) {
		case xml.StartElement:
			anchor, inside = "", e.Name.Local == "text" || e.Name.Local == "title"
			for _, a := range e.Attr {
				if a.Name.Local == "text-anchor" {
					anchor = a.Value + ": "
				}
			}
		case xml.CharData:
			if inside {
				all = append(all, anchor+string(e))
			}
		case xml.EndElement:
			inside = false
		}
	}
}

// A chart says all that it was given, and in each theme the same bytes each time.
func TestSVG(t *testing.T) {
	for _, c := range []struct {
		name string
		svg  func(Theme) ([]byte, error)
		want []string
	}{
		{"bars", bars.SVG, []string{"Speed & size", "end: theirs <1>", "end: ours", "46.9", "2.68", "middle: time, seconds", "–", "1234", "middle: 0", "middle: 500"}},
		{"curves", curves.SVG, []string{"middle: workers", "25 Gbit/s: 4.25", "1 Gbit/s: 6.5", "middle: 4", "end: 6"}},
		{"lines", lines.SVG, []string{"Growth", "middle: size, GB", "middle: time, seconds", "middle: one", "middle: sixteen", "end: 51.3", "end: 2", "10.7", "once", "end: 20", "end: 0"}},
	} {
		var seen [][]byte
		for _, theme := range Themes {
			svg, err := c.svg(theme)
			again, _ := c.svg(theme)
			if err != nil || !bytes.Equal(svg, again) {
				t.Fatalf("%s: two drawings differ, or %v", c.name, err)
			}
			got := texts(t, svg)
			for _, want := range c.want {
				if !slices.Contains(got, want) {
					t.Errorf("%s: no %q in %q", c.name, want, got)
				}
			}
			if slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "end: -") }) {
				t.Errorf("%s: an axis of rows in %q", c.name, got)
			}
			for _, want := range []string{`<svg width="840" height="`, "'Liberation Sans',Arial"} {
				if !strings.Contains(string(svg), want) {
					t.Errorf("%s: no %s in\n%s", c.name, want, svg)
				}
			}
			seen = append(seen, svg)
		}
		if bytes.Equal(seen[0], seen[1]) {
			t.Errorf("%s: both themes are the same", c.name)
		}
	}
}

func TestSVGErrors(t *testing.T) {
	for _, c := range []struct {
		name string
		svg  func(Theme) ([]byte, error)
	}{
		{"no rows", Bars{Panels: bars.Panels}.SVG},
		{"no panels", Bars{Rows: bars.Rows}.SVG},
		{"no lines", Lines{}.SVG},
		{"no points", Lines{Panels: []Line{{}}}.SVG},
		{"a curve that is too short", Lines{Panels: []Line{{X: []float64{1}, Y: []float64{1}, Marks: []string{"1"}, Others: []Curve{{}}}}}.SVG},
		{"no marks", Lines{Panels: []Line{{X: []float64{1}, Y: []float64{1}}}}.SVG},
	} {
		if svg, err := c.svg(Themes[0]); err == nil {
			t.Errorf("%s: %s", c.name, svg)
		}
	}
}

func TestFigure(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.7: "0.7", 1.625: "1.62", 3.9: "3.9", 46.94: "46.9", 99.96: "100", 126.53: "127", 1958: "1958", 12345: "12 345", 1234567: "1 234 567",
		math.Inf(1): "+Inf",
	} {
		if got := figure(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
	if got := figure(math.NaN()); got != "–" {
		t.Errorf("none: %q", got)
	}
}

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		from, to float64
		want     string
	}{
		{0, 126, "0 50 100"}, {0, 1, "0 0.5 1"}, {0, 700, "0 200 400 600"}, {0, 4.2, "0 2 4"}, {3, 3, ""}, {0, math.NaN(), ""},
	} {
		var got []string
		for _, tick := range ticks(4).Ticks(c.from, c.to) {
			got = append(got, tick.Label)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%v to %v: %q, want %q", c.from, c.to, got, c.want)
		}
	}
}

// Texts and marks can be told from the ground: WCAG's contrast, of 4.5 and 3.
func TestContrast(t *testing.T) {
	luminance := func(c interface{ RGBA() (r, g, b, a uint32) }) float64 {
		part := func(v uint32) float64 {
			if s := float64(v) / 0xffff; s > 0.04045 {
				return math.Pow((s+0.055)/1.055, 2.4)
			} else {
				return s / 12.92
			}
		}
		r, g, b, _ := c.RGBA()
		return 0.2126*part(r) + 0.7152*part(g) + 0.0722*part(b)
	}
	for _, theme := range Themes {
		for _, c := range []struct {
			name string
			of   interface{ RGBA() (r, g, b, a uint32) }
			want float64
		}{{"ink", theme.ink, 4.5}, {"faint", theme.faint, 4.5}, {"accent", theme.accent, 3}, {"others", theme.others, 3}} {
			a, b := luminance(c.of), luminance(theme.ground)
			if ratio := (max(a, b) + 0.05) / (min(a, b) + 0.05); ratio < c.want {
				t.Errorf("%s of %s: %.2f, want %.1f", c.name, theme.Name, ratio, c.want)
			}
		}
	}
}

// Names of curves that end at the same height are above each other.
func TestApart(t *testing.T) {
	all := []Curve{{"a", []float64{9, 1}}, {"b", []float64{9, 1}}, {"c", []float64{9, 1.5}}, {"d", []float64{9, 4}}}
	if got, want := apart(all, 1), []float64{1, 2, 3, 4}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
