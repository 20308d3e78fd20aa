// Package retention says which versions of a group a policy keeps, and why. The rules are
// those of "restic forget" up to version 0.15; later ones of restic also keep the oldest of
// all, as long as one of the counts of a rule is left.
package retention

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Layout is the form of a version, for package time. Versions are times in UTC.
const Layout = "2006-01-02-150405"

// Policy says which versions of a group are kept: the newest ones, as many as Last says; the
// newest of each of the latest hours, days, weeks, months and years that have versions, as many
// as the fields of these say; and those of the time Within before the newest. A version is kept if one rule keeps it. A week is that of ISO
// 8601.
type Policy struct {
	Last    int           `json:"last,omitempty"`
	Hourly  int           `json:"hourly,omitempty"`
	Daily   int           `json:"daily,omitempty"`
	Weekly  int           `json:"weekly,omitempty"`
	Monthly int           `json:"monthly,omitempty"`
	Yearly  int           `json:"yearly,omitempty"`
	Within  time.Duration `json:"within,omitempty"` // nanoseconds
}

// Errors of policies.
var (
	ErrNone = errors.New("the policy keeps nothing; give a number to keep")
	ErrAll  = errors.New("the policy would remove all versions")
)

// Check returns an error for a policy that keeps nothing, or has a negative number.
func (p Policy) Check() error {
	if p == (Policy{}) {
		return ErrNone
	}
	for _, r := range p.rules() {
		if r.left < 0 {
			return fmt.Errorf("%s: %d is negative", r.reason, r.left)
		}
	}
	if p.Within < 0 {
		return fmt.Errorf("within: %v is negative", p.Within)
	}
	return nil
}

// Item is a version that may be removed, or not if it is protected.
type Item struct {
	Version   string
	Protected bool
}

// Choice is what a policy decides about a version.
type Choice struct {
	Version string `json:"version"`
	// Reasons are why it is kept: "protected", "within 720h0m0s", "last", "hourly", "daily",
	// "weekly", "monthly" and "yearly". A version without any is removed.
	Reasons []string `json:"reasons"`
}

// Kept reports whether the version is kept.
func (c Choice) Kept() bool { return len(c.Reasons) > 0 }

// rule keeps the newest version of each of the latest periods.
type rule struct {
	reason string
	left   int
	period func(time.Time) string
	last   string // the period that was kept last
}

func (p Policy) rules() []*rule {
	in := func(layout string) func(time.Time) string {
		return func(t time.Time) string { return t.Format(layout) }
	}
	return []*rule{
		{reason: "last", left: p.Last, period: in(Layout)},
		{reason: "hourly", left: p.Hourly, period: in("2006-01-02-15")},
		{reason: "daily", left: p.Daily, period: in("2006-01-02")},
		{reason: "weekly", left: p.Weekly, period: week},
		{reason: "monthly", left: p.Monthly, period: in("2006-01")},
		{reason: "yearly", left: p.Yearly, period: in("2006")},
	}
}

// week returns the week of a time.
func week(t time.Time) string {
	year, number := t.ISOWeek()
	return fmt.Sprintf("%d-W%02d", year, number)
}

// keeps reports whether the rule keeps a version, given from the newest to the oldest.
func (r *rule) keeps(t time.Time) bool {
	period := r.period(t)
	if r.left <= 0 || period == r.last {
		return false
	}
	r.left--
	r.last = period
	return true
}

// Choose returns the choice about each version of a group, in their order, which may be any.
// A policy that would remove all of them is an error, as is a version that is no time.
func (p Policy) Choose(items []Item) ([]Choice, error) {
	sorted := slices.SortedFunc(slices.Values(items), func(a, b Item) int { return strings.Compare(b.Version, a.Version) })
	reasons := make(map[string][]string)
	rules := p.rules()
	var newest time.Time
	for i, item := range sorted {
		t, err := time.Parse(Layout, item.Version)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			newest = t
		}
		reasons[item.Version] = p.reasons(rules, item, t, newest)
	}
	choices := make([]Choice, 0, len(items))
	for _, item := range items {
		choices = append(choices, Choice{item.Version, reasons[item.Version]})
	}
	if len(items) > 0 && !slices.ContainsFunc(choices, Choice.Kept) {
		return nil, ErrAll
	}
	return choices, nil
}

// reasons returns why a version is kept.
func (p Policy) reasons(rules []*rule, item Item, t, newest time.Time) []string {
	why := []string{}
	if item.Protected {
		why = append(why, "protected")
	}
	if p.Within > 0 && t.After(newest.Add(-p.Within)) {
		why = append(why, fmt.Sprintf("within %v", p.Within))
	}
	for _, r := range rules {
		if r.keeps(t) {
			why = append(why, r.reason)
		}
	}
	return why
}
