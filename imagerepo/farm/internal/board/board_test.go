package board

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/internal/work"
)

var (
	jobA   = work.ID{1}
	limits = Limits{Silence: 10 * time.Second, Grace: 5 * time.Second, Least: time.Minute, Factor: 4, Workers: 3}
)

func at(seconds int) time.Time { return time.Unix(1000+int64(seconds), 0) }

func item(kind work.Kind, seconds float64) work.Item {
	return work.Item{Job: work.Job{Kind: kind}, Seconds: seconds}
}

// show shows what must be done.
func show(a Actions) string { return fmt.Sprintf("%d again, %d back", len(a.Again), len(a.Back)) }

// What happens to a job decides who may have it.
func TestJob(t *testing.T) {
	heard := func(b *Board, second int, worker string) bool {
		stop, _ := b.Heard(at(second), worker, []work.ID{jobA}, nil)
		return len(stop) == 0
	}
	for name, do := range map[string]func(b *Board) (got, want string){
		"the first has it": func(b *Board) (string, string) {
			return fmt.Sprint(heard(b, 1, "x"), heard(b, 1, "y"), heard(b, 2, "x"), b.Take(jobA), b.Has(jobA, "x"), b.Has(jobA, "y")), "true false true false true false"
		},
		"taken": func(b *Board) (string, string) {
			return fmt.Sprint(b.Take(jobA), b.Take(jobA), heard(b, 1, "x")), "true false false"
		},
		"not known": func(b *Board) (string, string) {
			return fmt.Sprint(b.Take(work.ID{9}), b.Has(work.ID{9}, "x")), "false false"
		},
		"ended by who has it": func(b *Board) (string, string) {
			heard(b, 1, "x")
			return fmt.Sprint(b.End(at(2), jobA, "y"), b.End(at(2), jobA, "x"), b.End(at(2), jobA, "x"), heard(b, 3, "x")), "false true false false"
		},
		"failed, and for others": func(b *Board) (string, string) {
			heard(b, 1, "x")
			a := b.Fail(at(2), jobA, "x", "no")
			return fmt.Sprint(show(a), " ", heard(b, 3, "x"), heard(b, 3, "y"), b.Not(jobA)), "1 again, 0 back false true [x]"
		},
		"failed thrice": func(b *Board) (string, string) {
			var a Actions
			for _, w := range []string{"x", "y", "z"} {
				heard(b, 1, w)
				a = b.Fail(at(2), jobA, w, "no")
			}
			return fmt.Sprint(show(a), " ", a.Back[0].Reasons), "0 again, 1 back [x: no y: no z: no]"
		},
		"failed by another": func(b *Board) (string, string) {
			heard(b, 1, "x")
			return show(b.Fail(at(2), jobA, "y", "no")), "0 again, 0 back"
		},
		"silent": func(b *Board) (string, string) {
			heard(b, 1, "x")
			return show(b.Tick(at(11))) + ", " + show(b.Tick(at(12))), "0 again, 0 back, 1 again, 0 back"
		},
		"lost, as by a worker that began again under its name": func(b *Board) (string, string) {
			heard(b, 1, "x")
			b.Heard(at(8), "x", nil, nil)
			return show(b.Tick(at(11))) + ", " + show(b.Tick(at(12))), "0 again, 0 back, 1 again, 0 back"
		},
		"slow": func(b *Board) (string, string) {
			s := ""
			for second := 1; second <= 82; second++ {
				heard(b, second, "x")
				if a := b.Tick(at(second)); len(a.Again) > 0 {
					s += fmt.Sprint(second, " ")
				}
			}
			return s, "82 " // four times the 20 s that it is expected to take
		},
		"nobody begins it": func(b *Board) (string, string) {
			return show(b.Tick(at(100))), "0 again, 0 back"
		},
		"nobody begins it, and the builder is idle": func(b *Board) (string, string) {
			b.Idle(at(100))
			b.Idle(at(104))
			return show(b.Tick(at(105))) + ", " + show(b.Tick(at(106))), "0 again, 0 back, 0 again, 1 back"
		},
		"barred": func(b *Board) (string, string) {
			heard(b, 1, "x")
			a := b.Bar(at(2), "x", "wrong")
			_, barred := b.Heard(at(3), "x", nil, nil)
			return fmt.Sprint(show(a), " ", barred, heard(b, 3, "x"), b.Barred("x"), b.Barred("y"), b.Others("x"), b.Others("y")), "1 again, 0 back true false true false false false"
		},
		"cleared": func(b *Board) (string, string) {
			b.Clear()
			return fmt.Sprint(heard(b, 1, "x"), len(b.Open())), "false 0"
		},
		"left": func(b *Board) (string, string) {
			jobs, seconds := b.Left()
			heard(b, 1, "x")
			b.End(at(41), jobA, "x") // twice as long as expected
			none, _ := b.Left()
			b.Add(at(42), jobA, item(work.RDiff, 10))
			_, longer := b.Left()
			return fmt.Sprintf("%d %.0f %d %.0f", jobs, seconds, none, longer), "1 20 0 12"
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := New(limits)
			b.Add(at(0), jobA, item(work.RDiff, 20))
			if got, want := do(b); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

// What a worker has made another one verifies, or whoever offered it: when that one is idle, or no
// other worker is there.
func TestVerify(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(b *Board)
		want string // at second 6
	}{
		"another worker is there": {func(b *Board) { b.Heard(at(1), "other", nil, nil) }, "0 again, 0 back"},
		"nobody else is there":    {func(*Board) {}, "0 again, 1 back"},
		"the other is barred":     {func(b *Board) { b.Heard(at(1), "other", nil, nil); b.Bar(at(2), "other", "wrong") }, "0 again, 1 back"},
		"the builder is idle":     {func(b *Board) { b.Heard(at(1), "other", nil, nil); b.Idle(at(0)) }, "0 again, 1 back"},
		"the other does it":       {func(b *Board) { b.Heard(at(1), "other", []work.ID{jobA}, nil); b.Idle(at(2)) }, "0 again, 0 back"},
		"the other cannot do it": {func(b *Board) {
			b.Heard(at(0), "other", []work.ID{jobA}, nil)
			b.Fail(at(0), jobA, "other", "no luck")
		}, "0 again, 1 back"},
	} {
		t.Run(name, func(t *testing.T) {
			b := New(limits)
			b.Add(at(0), jobA, item(work.Verify, 1), "maker")
			if stop, _ := b.Heard(at(0), "maker", []work.ID{jobA}, nil); len(stop) != 1 {
				t.Error("its maker may verify it")
			}
			c.do(b)
			b.Tick(at(4))
			if got := show(b.Tick(at(6))); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// An idle builder takes rdiff deltas over from workers: those that nobody makes, then those that
// were begun last.
func TestTakeOver(t *testing.T) {
	b := New(limits)
	for n, kind := range []work.Kind{work.RDiff, work.RDiff, work.Compact, work.RDiff, work.RDiff} {
		b.Add(at(0), work.ID{byte(n)}, item(kind, 1))
	}
	b.Heard(at(1), "x", []work.ID{{0}, {4}}, nil)
	b.End(at(2), work.ID{4}, "x")
	b.Heard(at(2), "y", []work.ID{{1}, {2}}, nil)
	for _, want := range [][]work.ID{{{3}, {1}}, {{0}}, nil} {
		if got := b.TakeOver(2); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	if stop, _ := b.Heard(at(3), "y", []work.ID{{1}, {2}}, nil); !slices.Equal(stop, []work.ID{{1}}) {
		t.Errorf("y must stop %v", stop)
	}
}

// Workers are listed by name, with what they did.
func TestWorkers(t *testing.T) {
	b := New(limits)
	b.Add(at(0), jobA, item(work.RDiff, 1))
	b.Heard(at(1), "y", nil, nil)
	b.Heard(at(1), "x", []work.ID{jobA}, nil)
	b.End(at(5), jobA, "x")
	b.Heard(at(12), "x", nil, nil)
	b.Tick(at(12))
	if got, want := fmt.Sprint(b.Workers()), fmt.Sprint([]Worker{{Name: "x", Done: 1, Seconds: 4, Heard: at(12)}, {Name: "y", Heard: at(1), Gone: true}}); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// The time in which a worker fetches images is no time of the job, and is bounded by their bytes.
func TestFetching(t *testing.T) {
	jobs := []work.ID{jobA}
	big := item(work.RDiff, 20) // which has 80 s, and 60 s + 100 s for its images
	big.Base.Size, big.Target.Size = 60*slowest, 40*slowest
	for name, c := range map[string]struct {
		fetches func(second int) bool
		heard   func(second int) bool // nil for always
		want    string                // when it is given to others, and why
	}{
		"never":            {fetches: func(int) bool { return false }, want: "82 not done after 1m21s"},
		"at first":         {fetches: func(s int) bool { return s <= 101 }, want: "182 not done after 1m21s"},
		"base, and target": {fetches: func(s int) bool { return s <= 31 || s > 51 && s <= 81 }, want: "142 not done after 1m21s"},
		"for too long":     {fetches: func(int) bool { return true }, want: "162 it has not fetched the images after 2m41s"},
		"for too long, but not at a stretch": {
			fetches: func(s int) bool { return s <= 81 || s > 91 }, want: "172 it has not fetched the images after 2m41s",
		},
		"unheard of meanwhile": {
			fetches: func(s int) bool { return s <= 101 }, heard: func(s int) bool { return s%10 == 1 }, want: "182 not done after 1m21s",
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := New(limits)
			b.Add(at(0), jobA, big)
			got := ""
			for second := 1; second <= 300 && got == ""; second++ {
				var fetching []work.ID
				if c.fetches(second) {
					fetching = jobs
				}
				if c.heard == nil || c.heard(second) {
					b.Heard(at(second), "x", jobs, append(fetching, work.ID{9})) // one that it has not is none
				}
				for _, again := range b.Tick(at(second)).Again {
					got = fmt.Sprint(second, " ", again.Reason)
				}
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// The time that jobs are expected to take follows from that without fetching, what a worker does in
// an hour from all of it; and the next worker has all the time again.
func TestFetchingEnds(t *testing.T) {
	b := New(limits)
	b.Add(at(0), jobA, item(work.RDiff, 10))
	for second := 0; second <= 50; second += 5 {
		b.Heard(at(second), "x", []work.ID{jobA}, []work.ID{jobA})
	}
	b.Heard(at(55), "x", []work.ID{jobA}, nil)
	b.End(at(60), jobA, "x")
	b.Add(at(60), jobA, item(work.RDiff, 100))
	if _, left := b.Left(); left != 100 || b.Workers()[0].Seconds != 60 {
		t.Errorf("%v s are left, want 100; %+v", left, b.Workers())
	}
	b.Heard(at(60), "x", []work.ID{jobA}, nil)
	b.Heard(at(70), "x", []work.ID{jobA}, []work.ID{jobA})
	b.Fail(at(71), jobA, "x", "no")
	b.Heard(at(72), "y", []work.ID{jobA}, []work.ID{jobA})
	if e := b.jobs[jobA]; e.fetched != 0 || !e.since.Equal(at(72)) {
		t.Errorf("%+v", e)
	}
}
