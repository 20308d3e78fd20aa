package ui

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// event is what was done when in a recorded run.
type event struct {
	at          time.Duration // since the run began
	done, total int64
}

// recorded returns the events of a file: lines of milliseconds, what was done, and what was
// to be done. The last line is the end of the run.
func recorded(t *testing.T, file string) (events []event) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var e event
		var ms int64
		if _, err := fmt.Sscan(s.Text(), &ms, &e.done, &e.total); err != nil {
			t.Fatalf("%s: %q: %v", file, s.Text(), err)
		}
		e.at = time.Duration(ms) * time.Millisecond
		events = append(events, e)
	}
	return events
}

// After a tenth of a real run the time left is right within a factor of two; and in the end,
// where it is mostly that of flushing files, within a twelfth of the run.
func TestLeft(t *testing.T) {
	files, err := filepath.Glob("testdata/*.events")
	if err != nil || len(files) != 3 {
		t.Fatalf("%q, %v", files, err)
	}
	for _, file := range files {
		events := recorded(t, file)
		end := events[len(events)-1].at
		var l left
		start, shown, worst := time.Now(), 0, 1.0
		for _, e := range events {
			got, known := l.at(start.Add(e.at), e.done, e.total)
			want := end - e.at
			if e.at < end/10 {
				continue
			}
			if shown++; known && (got-want).Abs() < end/12 {
				continue
			}
			ratio := float64(got) / float64(want)
			worst = max(worst, ratio, 1/ratio)
			if !known || worst > 2 {
				t.Fatalf("%s: after %v %v are left, %v; want %v", file, e.at, got, known, want)
			}
		}
		if shown < 20 {
			t.Errorf("%s: only %d events", file, shown)
		}
		t.Logf("%s: off by a factor of %.2f at most", filepath.Base(file), worst)
	}
}

// The time left is not shown too soon, and other work begins again.
func TestLeftUnknown(t *testing.T) {
	var l left
	start := time.Now()
	for i, c := range []struct {
		at          time.Duration
		done, total int64
		want        time.Duration
		known       bool
	}{
		{0, 0, 100, 0, false},
		{time.Second, 10, 100, 0, false},
		{10 * time.Second, 0, 100, 0, false}, // nothing is done: other work
		{20 * time.Second, 50, 100, 10 * time.Second, true},
		{20 * time.Second, 40, 100, 10 * time.Second, true}, // out of order
		{20 * time.Second, 50, 150, 20 * time.Second, true},
		{20 * time.Second, 150, 150, 0, true},
		{22 * time.Second, 20, 100, 0, false},
	} {
		if got, known := l.at(start.Add(c.at), c.done, c.total); got.Round(10*time.Millisecond) != c.want || known != c.known {
			t.Errorf("%d: %v, %v; want %v, %v", i, got, known, c.want, c.known)
		}
	}
}

func TestShortly(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 1499 * time.Millisecond: "1s", 59 * time.Second: "59s", 59600 * time.Millisecond: "1m00s",
		200 * time.Second: "3m20s", time.Hour: "1h00m", 65 * time.Minute: "1h05m", 99 * time.Hour: "99h00m", 240 * time.Hour: "10d",
	} {
		if got := shortly(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

// The bar is one line, in the narrowest terminal too, and names the stage, the end of the
// file's name, and the time left.
func TestBar(t *testing.T) {
	const delta = "rdiffs/puavo-os-desktop-bookworm-2023-06-10-120000--2024-01-20-120000-amd64.rdiff"
	for _, c := range []struct {
		columns     int
		stage, file string
		want        string
	}{
		{40, "delta_make", delta, "make …024-01-20-120000 1h26m  50% |█"},
		{40, "image_read", "a.img", "read a 1h26m  50% |"},
		{40, "publishing", "", "publishing 1h26m  50% |"},
		{40, "image_read", "\x1b[2J\n.img", `read \x1b[2J\n 1h26m  50% |`},
		{80, "delta_make", delta, "make …m-2023-06-10-120000--2024-01-20-120000 1h26m  50% |████"},
	} {
		tty := openTerminal(t, c.columns)
		s := New(tty.File, Options{})
		clock := time.Now()
		s.now = func() time.Time { return clock }
		s.Working(c.stage, c.file)
		s.Progress(0, 1<<40)
		clock = clock.Add(5160 * time.Second)
		time.Sleep(2 * frame) // by its own clock, too, the bar is drawn again
		s.Progress(1<<39, 1<<40)
		lines := tty.lines(c.columns)
		if len(lines) != 1 || !strings.HasPrefix(lines[0], c.want) || utf8.RuneCountInString(lines[0]) > c.columns {
			t.Errorf("%d columns: %q, want %q", c.columns, lines, c.want)
		}
	}
}

// The progress for programs has the file that is worked on, what is done of all work, and
// the time left.
func TestWorking(t *testing.T) {
	run := func(o Options) string {
		var b bytes.Buffer
		s := New(&b, o)
		clock := time.Now()
		s.now = func() time.Time { return clock }
		pass := func(d time.Duration) { clock = clock.Add(d) }
		s.Working("starting", "")
		pass(time.Second)
		s.Progress(0, 0)
		s.Working("image_read", "a.img")
		s.Progress(0, 100) // too soon
		pass(time.Second)
		s.Progress(10, 100)
		pass(10 * time.Second)
		s.Working("delta_make", "rdiffs/b.rdiff")
		pass(time.Second)
		s.Progress(30, 80)
		s.Progress(80, 80)
		s.Working("finished", "")
		return b.String()
	}
	const want = `{"stage":"starting"}
{"stage":"image_read","file":"a.img"}
{"stage":"image_read","file":"a.img","done":10,"total":100}
{"stage":"delta_make","file":"rdiffs/b.rdiff","done":10,"total":100}
{"stage":"delta_make","file":"rdiffs/b.rdiff","done":30,"total":80,"seconds_left":28}
{"stage":"delta_make","file":"rdiffs/b.rdiff","done":80,"total":80,"seconds_left":0}
{"stage":"finished"}
`
	for _, c := range []struct {
		options Options
		want    string
	}{
		{Options{ProgressJSON: true, JSON: true}, want},
		{Options{ProgressJSON: true, Quiet: true}, ""},
		{Options{}, ""},
	} {
		if got := run(c.options); got != c.want {
			t.Errorf("%+v: got %s", c.options, got)
		}
	}
}
