package plan

import (
	"fmt"
	"slices"
	"time"

	"puavo-image-repository/meta"
)

// Retention says which images of a series are published: so many of the newest, and the
// newest of so many of the latest days, weeks, months and years that have images. An image
// is kept if one of them keeps it. The zero Retention keeps all images.
//
// Dates are those of the versions in the images' names, in no time zone. A week is that of
// ISO 8601: it begins on Monday, and belongs to the year that has its Thursday.
type Retention struct {
	Last    int `json:"last,omitempty"`
	Daily   int `json:"daily,omitempty"`
	Weekly  int `json:"weekly,omitempty"`
	Monthly int `json:"monthly,omitempty"`
	Yearly  int `json:"yearly,omitempty"`
}

// Choice is what a Retention decides about an image.
type Choice struct {
	File string `json:"file"`
	// Reasons are "last", "daily", "weekly", "monthly" and "yearly", as they apply. An image
	// without any is not kept.
	Reasons []string `json:"reasons"`
}

// Kept reports whether the image is kept.
func (c Choice) Kept() bool { return len(c.Reasons) > 0 }

// rule keeps the newest image of each of so many periods.
type rule struct {
	reason string
	left   int
	period func(meta.Name) string // of an image
	last   string                 // the period that was kept last
}

// rules returns the rules of a Retention.
func (r Retention) rules() []*rule {
	return []*rule{
		{reason: "last", left: r.Last, period: meta.Name.String},
		{reason: "daily", left: r.Daily, period: func(n meta.Name) string { return n.Version[:len("2006-01-02")] }},
		{reason: "weekly", left: r.Weekly, period: week},
		{reason: "monthly", left: r.Monthly, period: func(n meta.Name) string { return n.Version[:len("2006-01")] }},
		{reason: "yearly", left: r.Yearly, period: func(n meta.Name) string { return n.Version[:len("2006")] }},
	}
}

// week returns the week of an image.
func week(n meta.Name) string {
	day := n.Version[:len(time.DateOnly)]
	t, err := time.Parse(time.DateOnly, day)
	if err != nil {
		return day // no date, as an old name may have it: a week of its own
	}
	year, number := t.ISOWeek()
	return fmt.Sprintf("%d-W%02d", year, number)
}

// Choose returns the choice about each image of a series, in their order, which may be any.
func (r Retention) Choose(images []meta.Name) []Choice {
	rules := r.rules()
	reasons := make(map[meta.Name][]string)
	sorted := slices.SortedFunc(slices.Values(images), meta.Name.Compare)
	for _, n := range slices.Backward(sorted) {
		for _, rule := range rules {
			if period := rule.period(n); rule.left > 0 && period != rule.last {
				rule.left--
				rule.last = period
				reasons[n] = append(reasons[n], rule.reason)
			}
		}
	}
	choices := []Choice{}
	for _, n := range images {
		choices = append(choices, Choice{File: n.String(), Reasons: append([]string{}, reasons[n]...)})
	}
	return choices
}
