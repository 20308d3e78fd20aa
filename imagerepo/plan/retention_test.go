package plan

import (
	"strings"
	"testing"

	"puavo-image-repository/meta"
)

// The newest of each period, counted from the newest image on.
func TestChoose(t *testing.T) {
	const daily = "2022-01-03-100000 2022-01-03-200000 2022-01-04-100000 2022-01-05-100000 2022-01-05-110000"
	const years = "2019-12-30-000000 2020-01-05-235959 2020-12-31-000000 2021-01-03-000000 2021-01-04-000000 2021-12-31-120000 2022-01-02-120000"
	for _, c := range []struct {
		name      string
		retention Retention
		versions  string
		want      string // the reasons of each
	}{
		{"no image", Retention{Last: 1}, "", ""},
		{"none", Retention{}, daily, "- - - - -"},
		{"less than none", Retention{Last: -1, Daily: -2}, daily, "- - - - -"},
		{"last", Retention{Last: 2}, daily, "- - - last last"},
		{"more than there are", Retention{Last: 9}, daily, "last last last last last"},
		{"daily", Retention{Daily: 2}, daily, "- - daily - daily"},
		{"daily, all", Retention{Daily: 5}, daily, "- daily daily - daily"},
		{"both", Retention{Last: 1, Daily: 3}, daily, "- daily daily - last+daily"},
		{"days without images do not count", Retention{Daily: 2}, "2020-01-01-000000 2022-01-01-000000 2022-06-01-000000", "- daily daily"},
		// 2019-12-30 and 2020-01-05 are one week; so are 2020-12-31 and 2021-01-03, and
		// 2021-12-31 and 2022-01-02.
		{"weekly", Retention{Weekly: 9}, years, "- weekly - weekly weekly - weekly"},
		{"monthly", Retention{Monthly: 3}, years, "- - - - monthly monthly monthly"},
		{"yearly", Retention{Yearly: 9}, years, "yearly - yearly - - yearly yearly"},
		{"yearly, two", Retention{Yearly: 2}, years, "- - - - - yearly yearly"},
		{"all rules", Retention{1, 1, 2, 2, 3}, years, "- - yearly - weekly monthly+yearly last+daily+weekly+monthly+yearly"},
		{"any order", Retention{Last: 1, Yearly: 2}, "2022-01-01-000000 2020-01-01-000000 2021-01-01-000000", "last+yearly - yearly"},
		{"no date", Retention{Weekly: 2}, "2022-13-41-000000 2022-13-42-000000", "weekly weekly"},
	} {
		var images []meta.Name
		for v := range strings.FieldsSeq(c.versions) {
			images = append(images, meta.Name{Prefix: "puavo-os", Version: v, Arch: "amd64"})
		}
		var got []string
		for i, choice := range c.retention.Choose(images) {
			if choice.File != images[i].String() || choice.Reasons == nil || choice.Kept() != (len(choice.Reasons) > 0) {
				t.Errorf("%s: %+v of %s", c.name, choice, images[i])
			}
			if choice.Kept() {
				got = append(got, strings.Join(choice.Reasons, "+"))
			} else {
				got = append(got, "-")
			}
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %s, want %s", c.name, s, c.want)
		}
	}
}
