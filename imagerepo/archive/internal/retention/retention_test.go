package retention

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func items(versions string) (all []Item) {
	for v := range strings.FieldsSeq(versions) {
		version, protected := strings.CutSuffix(v, "!")
		all = append(all, Item{version, protected})
	}
	return all
}

func TestChoose(t *testing.T) {
	days := "2024-01-01-100000 2024-01-01-110000 2024-01-01-113000 2024-01-02-100000 2024-01-08-000000"
	for _, c := range []struct {
		name     string
		policy   Policy
		versions string
		want     string // of each version, the reasons
		err      error
	}{
		{"last", Policy{Last: 2}, days, "- - - last last", nil},
		{"more than there are", Policy{Last: 9}, days, "last last last last last", nil},
		{"hourly", Policy{Hourly: 3}, days, "- - hourly hourly hourly", nil},
		{"daily", Policy{Daily: 2}, days, "- - - daily daily", nil},
		{"daily, a count is left", Policy{Daily: 4}, days, "- - daily daily daily", nil},
		{"weekly", Policy{Weekly: 2}, days, "- - - weekly weekly", nil},
		{"monthly and yearly", Policy{Monthly: 1, Yearly: 1}, days, "- - - - monthly+yearly", nil},
		{"within", Policy{Within: 6 * 24 * time.Hour}, days, "- - - within 144h0m0s within 144h0m0s", nil},
		{"at the end of within", Policy{Within: 5*24*time.Hour + 14*time.Hour}, days, "- - - - within 134h0m0s", nil},
		{"protected", Policy{Last: 1}, "2024-01-01-100000! 2024-01-02-100000", "protected last", nil},
		{"in any order", Policy{Last: 1}, "2024-01-02-100000 2024-01-01-100000", "last -", nil},
		{"a week of two years", Policy{Weekly: 1}, "2024-12-30-000000 2025-01-01-000000", "- weekly", nil},
		{"nothing is kept", Policy{}, days, "", ErrAll},
		{"no versions", Policy{Last: 1}, "", "", nil},
		{"no time", Policy{Last: 1}, "2024-13-01-100000", "", errors.ErrUnsupported},
	} {
		choices, err := c.policy.Choose(items(c.versions))
		var got []string
		for _, choice := range choices {
			got = append(got, strings.Join(choice.Reasons, "+"))
			if len(choice.Reasons) == 0 {
				got[len(got)-1] = "-"
			}
		}
		if errors.Is(c.err, errors.ErrUnsupported) != (err != nil && !errors.Is(err, ErrAll)) || errors.Is(c.err, ErrAll) != errors.Is(err, ErrAll) || strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, %v; want %q", c.name, strings.Join(got, " "), err, c.want)
		}
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		policy Policy
		want   string
	}{
		{Policy{}, ErrNone.Error()}, {Policy{Last: 1}, "<nil>"}, {Policy{Within: 1}, "<nil>"},
		{Policy{Last: 1, Daily: -1}, "daily: -1 is negative"}, {Policy{Within: -time.Second}, "within: -1s is negative"},
	} {
		if got := fmt.Sprint(c.policy.Check()); got != c.want {
			t.Errorf("%+v: %s, want %s", c.policy, got, c.want)
		}
	}
}

// Whatever the policy, it keeps the newest version, and more rules keep no less.
func FuzzChoose(f *testing.F) {
	f.Add(1, 0, 3, 0, int64(0), []byte{1, 2, 200})
	f.Fuzz(func(t *testing.T, last, hourly, daily, monthly int, within int64, gaps []byte) {
		p := Policy{Last: last, Hourly: hourly, Daily: daily, Monthly: monthly, Within: time.Duration(within)}
		if p.Check() != nil || len(gaps) > 100 {
			return
		}
		at := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
		var all []Item
		for _, gap := range gaps {
			at = at.Add(time.Duration(1+int(gap)) * time.Hour)
			all = append(all, Item{Version: at.Format(Layout)})
		}
		choices, err := p.Choose(all)
		if err != nil {
			t.Fatal(err)
		}
		more := p
		more.Weekly = 2
		wider, err := more.Choose(all)
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range choices {
			if c.Kept() && !wider[i].Kept() || i == len(choices)-1 && !c.Kept() || slices.Contains(c.Reasons, "") {
				t.Fatalf("%+v: %v, %v", p, c, wider[i])
			}
		}
	})
}
