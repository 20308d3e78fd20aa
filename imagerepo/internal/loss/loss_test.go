package loss

import (
	"fmt"
	"testing"

	"puavo-image-repository/meta"
)

// series returns a series with an image of each of these years.
func series(t *testing.T, name string, years ...int) meta.Series {
	s := meta.Series{Name: name + "-amd64"}
	for _, y := range years {
		n, err := meta.ParseName(fmt.Sprintf("%s-%d-01-01-000000-amd64.img", name, y))
		if err != nil {
			t.Fatal(err)
		}
		s.Images = append(s.Images, meta.Image{Name: n})
	}
	return s
}

func TestBetween(t *testing.T) {
	of := func(s ...meta.Series) []meta.Series { return s }
	s := func(name string, years ...int) meta.Series { return series(t, name, years...) }
	for _, c := range []struct {
		name          string
		before, after []meta.Series
		gone, all     int
		tooMuch       bool
	}{
		{"nothing published", nil, of(s("a", 2020)), 0, 0, false},
		{"the same", of(s("a", 2020, 2021)), of(s("a", 2020, 2021)), 0, 2, false},
		{"one of two", of(s("a", 2020, 2021)), of(s("a", 2021)), 1, 2, false},
		{"half of four", of(s("a", 2020, 2021), s("b", 2020, 2021)), of(s("a", 2021), s("b", 2021)), 2, 4, false},
		{"more than half", of(s("a", 2020, 2021, 2022)), of(s("a", 2022)), 2, 3, true},
		{"all superseded", of(s("a", 2020, 2021, 2022)), of(s("a", 2023)), 0, 3, false},
		{"by an older one, all lost", of(s("a", 2020, 2021, 2022)), of(s("a", 2019)), 3, 3, true},
		{"a series", of(s("a", 2020), s("b", 2020, 2021, 2022)), of(s("b", 2020, 2021, 2022)), 1, 4, true},
		{"a series is empty", of(s("a", 2020), s("b", 2020, 2021, 2022)), of(s("a"), s("b", 2020, 2021, 2022)), 1, 4, true},
		{"everything", of(s("a", 2020)), nil, 1, 1, true},
	} {
		got := Between(c.before, c.after)
		if len(got.Gone()) != c.gone || got.All() != c.all || got.TooMuch() != c.tooMuch {
			t.Errorf("%s: gone %v of %d, too much: %v", c.name, got.Gone(), got.All(), got.TooMuch())
		}
	}
}

// What no document names counts as a series of its own.
func TestAdd(t *testing.T) {
	listed, unlisted := series(t, "a", 2020, 2021, 2022), series(t, "b", 2020, 2021)
	images := []meta.Name{unlisted.Images[0].Name, unlisted.Images[1].Name}
	for _, c := range []struct {
		gone    []meta.Name
		tooMuch bool
	}{{nil, false}, {images[:1], false}, {images, true}} {
		l := Of([]meta.Series{listed}, func(meta.Name) bool { return true }, nil)
		if l.Has(images[0]) || !l.Has(listed.Images[0].Name) {
			t.Error("it has what was not counted, or lacks what was")
		}
		if l.Add(images, c.gone); l.TooMuch() != c.tooMuch || l.All() != 5 {
			t.Errorf("%v gone: too much: %v, of %d", c.gone, l.TooMuch(), l.All())
		}
	}
}
