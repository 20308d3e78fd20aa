package measure

import (
	"slices"
	"testing"
)

func TestStages(t *testing.T) {
	for _, c := range []struct {
		text string
		want []Stage
	}{
		{"", nil},
		{"image.img is there.\n", nil},
		{"10.50 begin\n", nil},
		{"10.50 begin\n11.00 wget\n13.00 rdiff patch\n", []Stage{{"wget", 0.5}, {"rdiff patch", 2}}},
	} {
		if got := Stages(c.text); !slices.Equal(got, c.want) {
			t.Errorf("%q: %v, want %v", c.text, got, c.want)
		}
	}
}
