package ui

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestLog(t *testing.T) {
	for _, c := range []struct {
		name           string
		quiet, verbose bool
		want           string
	}{
		{"default", false, false, "warning: two\nerror: three\n"},
		{"verbose", false, true, "one\nwarning: two\nerror: three\n"},
		{"quiet", true, false, "error: three\n"},
		{"both", true, true, "error: three\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b bytes.Buffer
			log := New(&b, Options{Quiet: c.quiet, Verbose: c.verbose}).Log()
			log.Debug("zero")
			log.Info("one")
			log.Warn("two")
			log.Error("three")
			if b.String() != c.want {
				t.Errorf("got %q, want %q", &b, c.want)
			}
		})
	}
}

// A message is one line: its text, and its attributes in their order, of which
// a reason stands without its key.
func TestLogAttributes(t *testing.T) {
	for _, c := range []struct {
		log  func(*slog.Logger)
		want string
	}{
		{func(l *slog.Logger) { l.Info("linked") }, "linked\n"},
		{func(l *slog.Logger) { l.Info("linked", "image", "a.img") }, "linked: image a.img\n"},
		{func(l *slog.Logger) { l.Info("delta", "bytes", 12, "share", 0.5) }, "delta: bytes 12, share 0.5\n"},
		{func(l *slog.Logger) { l.Warn("skipped", "reason", errors.New("a.img is empty")) }, "warning: skipped: a.img is empty\n"},
		{func(l *slog.Logger) { l.Warn("skipped", "file", "a\x1b[2J\nb.img") }, `warning: skipped: file a\x1b[2J\nb.img` + "\n"},
		{func(l *slog.Logger) { l.Warn("a\x1b[2J\nb") }, `warning: a\x1b[2J\nb` + "\n"},
		{func(l *slog.Logger) { l.Error("no way", "image", "a.img", "reason", "b") }, "error: no way: image a.img, b\n"},
		{func(l *slog.Logger) { l.With("series", "s").Info("made", "images", 3) }, "made: series s, images 3\n"},
		{func(l *slog.Logger) { l.WithGroup("g").Info("made", "images", 3) }, "made: images 3\n"},
		{func(l *slog.Logger) {
			l = l.With("a", 1).With("b", 2).With("c", 3)
			one, _ := l.With("d", 4), l.With("e", 5) // this one does not overwrite that
			one.Info("made")
		}, "made: a 1, b 2, c 3, d 4\n"},
	} {
		var b bytes.Buffer
		c.log(New(&b, Options{Verbose: true}).Log())
		if b.String() != c.want {
			t.Errorf("got %q, want %q", &b, c.want)
		}
	}
}

// As JSON, a message is an object on a line, with its attributes.
func TestLogJSON(t *testing.T) {
	for _, c := range []struct {
		name string
		o    Options
		want string
	}{
		{"default", Options{JSON: true}, `{"level":"WARN","msg":"two","image":"a.img","reason":"a.img is empty"} {"level":"ERROR","msg":"three"}`},
		{"verbose", Options{JSON: true, Verbose: true}, `{"level":"INFO","msg":"one","bytes":12} ` +
			`{"level":"WARN","msg":"two","image":"a.img","reason":"a.img is empty"} {"level":"ERROR","msg":"three"}`},
		{"quiet", Options{JSON: true, Quiet: true, Verbose: true}, `{"level":"ERROR","msg":"three"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b bytes.Buffer
			log := New(&b, c.o).Log()
			log.Debug("zero")
			log.Info("one", "bytes", 12)
			log.Warn("two", "image", "a.img", "reason", errors.New("a.img is empty"))
			log.Error("three")
			lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
			for i, l := range lines {
				rest, found := strings.CutPrefix(l, `{"time":"`)
				when, rest, _ := strings.Cut(rest, `",`)
				if _, err := time.Parse(time.RFC3339Nano, when); err != nil || !found {
					t.Errorf("%s: no time in front: %v", l, err)
				}
				lines[i] = "{" + rest
			}
			if got := strings.Join(lines, " "); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// What a message says as JSON is escaped and bounded for whoever prints it. Its lines
// stay.
func TestLogJSONTexts(t *testing.T) {
	const rude, shown = "a\n\tb\x1b[2J\u009b\u202e\x7f", "a\n\tb\\x1b[2J\\u009b\\u202e\\x7f"
	var b bytes.Buffer
	log := New(&b, Options{JSON: true}).Log()
	log.Warn(rude, "text", rude, "reason", errors.New(rude), "long", strings.Repeat("x", 1<<20), "number", 7)
	var got map[string]any
	if err := json.Unmarshal(b.Bytes(), &got); err != nil || b.Len() > 20<<10 {
		t.Fatalf("%v in %d bytes", err, b.Len())
	}
	for key, want := range map[string]any{"msg": shown, "text": shown, "reason": shown, "number": 7.0, "level": "WARN"} {
		if got[key] != want {
			t.Errorf("%s is %q, want %q", key, got[key], want)
		}
	}
}

// A writer that fails is the logger's error, not a panic.
func TestLogFails(t *testing.T) {
	r, w := io.Pipe()
	r.CloseWithError(io.ErrShortWrite)
	h := New(w, Options{}).Log().Handler()
	if err := h.Handle(t.Context(), slog.Record{Level: slog.LevelWarn, Message: "x"}); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("got %v", err)
	}
}

func TestBytes(t *testing.T) {
	for _, c := range []struct {
		n    int64
		want string
	}{
		{0, "0 B"}, {1, "1 B"}, {1023, "1023 B"},
		{1024, "1.0 KiB"}, {1536, "1.5 KiB"}, {315392, "308.0 KiB"},
		{1<<20 - 1, "1.0 MiB"}, {1 << 20, "1.0 MiB"}, {1023 << 20, "1023.0 MiB"},
		{1<<30 - 1, "1.0 GiB"}, {10 << 30, "10.0 GiB"},
		{1 << 40, "1.0 TiB"}, {1 << 50, "1024.0 TiB"}, {1<<63 - 1, "8388608.0 TiB"},
	} {
		if got := Bytes(c.n); got != c.want {
			t.Errorf("Bytes(%d) = %q, want %q", c.n, got, c.want)
		}
	}
}

// Without a terminal, and where quiet or JSON is set on one, there is no progress.
func TestNoProgress(t *testing.T) {
	draw := func(s *Screen) {
		for i := range int64(101) {
			s.Progress(i, 100)
		}
		s.Done()
	}
	var b bytes.Buffer
	draw(New(&b, Options{}))
	if b.Len() > 0 {
		t.Errorf("to a buffer: %q", &b)
	}
	f, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	draw(New(f, Options{}))
	if info, err := f.Stat(); err != nil || info.Size() > 0 {
		t.Errorf("to a file: %v, %v", info, err)
	}
	tty := openTerminal(t, 80)
	draw(New(tty.File, Options{Quiet: true}))
	draw(New(tty.File, Options{JSON: true}))
	New(tty.File, Options{}).Progress(0, 0) // nothing to be done, nothing to be shown
	if got := tty.written(); got != "" {
		t.Errorf("quiet, JSON, nothing to do: %q", got)
	}
}

// On a terminal, a bar shows the progress and goes away in the end; log lines
// stand above it, whole, and stay.
func TestProgress(t *testing.T) {
	for _, width := range []int{80, 50} {
		tty := openTerminal(t, width)
		s := New(tty.File, Options{})
		log := s.Log()
		log.Warn("before")
		s.Progress(10<<20, 100<<20)
		time.Sleep(120 * time.Millisecond) // the bar is not drawn more often than every 100 ms
		s.Progress(50<<20, 100<<20)
		lines := tty.lines(width)
		if len(lines) != 2 || lines[0] != "warning: before" || !strings.Contains(lines[1], "50%") {
			t.Errorf("%d columns: %q, want a line and a bar at 50%%", width, lines)
		}
		if width == 80 && !strings.Contains(lines[1], "50/100 MiB") {
			t.Errorf("%q, want the bytes", lines)
		}
		log.Warn("in between")
		log.Warn("and again")
		lines = tty.lines(width)
		if len(lines) != 4 || lines[1] != "warning: in between" || lines[2] != "warning: and again" || !strings.Contains(lines[3], "50%") {
			t.Errorf("%d columns: %q, want three lines and the bar", width, lines)
		}
		s.Done()
		s.Done()
		log.Warn("after")
		want := []string{"warning: before", "warning: in between", "warning: and again", "warning: after"}
		if lines := tty.lines(width); !slices.Equal(lines, want) {
			t.Errorf("%d columns: %q, want %q", width, lines, want)
		}
	}
}

// A bar that is full goes away by itself. Less after that is the progress of
// another way to do the work.
func TestProgressStartsOver(t *testing.T) {
	tty := openTerminal(t, 80)
	s := New(tty.File, Options{})
	s.Progress(20, 100)
	s.Progress(100, 100)
	s.Progress(100, 100)
	if lines := tty.lines(80); len(lines) > 0 {
		t.Errorf("full: %q, want nothing", lines)
	}
	s.Log().Warn("the first way failed")
	if lines := tty.lines(80); !slices.Equal(lines, []string{"warning: the first way failed"}) {
		t.Errorf("in between: %q, want the line alone", lines)
	}
	s.Progress(30, 100)
	if lines := tty.lines(80); len(lines) != 2 || !strings.Contains(lines[1], "30%") {
		t.Errorf("again: %q, want a line and a bar at 30%%", lines)
	}
	s.Done()
	if lines := tty.lines(80); !slices.Equal(lines, []string{"warning: the first way failed"}) {
		t.Errorf("done: %q", lines)
	}
}

// A screen is used by many goroutines; what is left on it are all the lines,
// each whole.
func TestConcurrent(t *testing.T) {
	const workers, steps = 8, 200
	tty := openTerminal(t, 80)
	s := New(tty.File, Options{})
	var done atomic.Int64
	var wg sync.WaitGroup
	var want []string
	for w := range workers {
		for i := 0; i < steps; i += 50 {
			want = append(want, fmt.Sprintf("warning: worker %d: step %d", w, i))
		}
		wg.Go(func() {
			log := s.Log()
			for i := range steps {
				s.Progress(done.Add(1), workers*steps)
				if i%50 == 0 {
					log.Warn(fmt.Sprintf("worker %d", w), "step", i)
				}
			}
		})
	}
	wg.Wait()
	s.Done()
	got := tty.lines(80)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// terminal is a pseudo-terminal: the file is the end that programs write to.
type terminal struct {
	*os.File
	other *os.File // whose input the programs read
	t     *testing.T
	marks int

	mu  sync.Mutex
	got []byte // what arrived at the other end
}

// openTerminal opens a pseudo-terminal of this many columns.
func openTerminal(t *testing.T, columns int) *terminal {
	t.Helper()
	other, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(other.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: uint16(columns)})
	}
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	tty := &terminal{File: f, other: other, t: t}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for b := make([]byte, 4096); ; {
			n, err := other.Read(b)
			tty.mu.Lock()
			tty.got = append(tty.got, b[:n]...)
			tty.mu.Unlock()
			if err != nil {
				return // EIO: the end that programs write to was closed
			}
		}
	}()
	t.Cleanup(func() {
		f.Close()
		<-ended
		other.Close()
	})
	return tty
}

// written returns all that was written so far.
func (tty *terminal) written() string {
	tty.t.Helper()
	tty.marks++
	mark := fmt.Sprintf("\x00%d\x00", tty.marks)
	if _, err := tty.WriteString(mark); err != nil {
		tty.t.Fatal(err)
	}
	for start := time.Now(); time.Since(start) < 10*time.Second; time.Sleep(time.Millisecond) {
		tty.mu.Lock()
		before, _, found := bytes.Cut(tty.got, []byte(mark))
		if found {
			tty.got = slices.Clone(before)
		}
		tty.mu.Unlock()
		if found {
			return string(before)
		}
	}
	tty.t.Fatal("what was written does not arrive")
	return ""
}

// lines returns what a terminal of this many columns shows, from
// carriage returns, newlines and spaces: trailing spaces and lines are left out.
func (tty *terminal) lines(columns int) []string {
	tty.t.Helper()
	screen, row, column := [][]rune{nil}, 0, 0
	down := func() {
		if row++; row == len(screen) {
			screen = append(screen, nil)
		}
	}
	for _, c := range tty.written() {
		switch {
		case c == '\r':
			column = 0
			continue
		case c == '\n':
			down()
			continue
		case c < ' ':
			tty.t.Fatalf("control character %q", c)
		}
		if column == columns { // the line is full and goes on in the next one
			column = 0
			down()
		}
		for len(screen[row]) <= column {
			screen[row] = append(screen[row], ' ')
		}
		screen[row][column] = c
		column++
	}
	var lines []string
	for _, l := range screen {
		lines = append(lines, strings.TrimRight(string(l), " "))
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// Progress for programs is an object for each stage, five a second while it lasts, and one
// when it is complete.
func TestStage(t *testing.T) {
	type step struct {
		after       time.Duration
		name, image string
		done, total int64
	}
	steps := []step{
		{0, "starting", "", 0, 0},
		{0, "starting", "", 0, 0},
		{0, "image_download", "a\x1b.img", 0, 9},
		{100 * time.Millisecond, "image_download", "a\x1b.img", 3, 9}, // too soon
		{100 * time.Millisecond, "image_download", "a\x1b.img", 4, 9},
		{10 * time.Millisecond, "image_download", "a\x1b.img", 9, 9},
		{10 * time.Millisecond, "image_download", "a\x1b.img", 9, 9},
		{10 * time.Millisecond, "image_download", "b.img", 2, 9},
	}
	const want = `{"stage":"starting"}
{"stage":"image_download","image":"a\u001b.img","done":0,"total":9}
{"stage":"image_download","image":"a\u001b.img","done":4,"total":9}
{"stage":"image_download","image":"a\u001b.img","done":9,"total":9,"seconds_left":0}
{"stage":"image_download","image":"b.img","done":2,"total":9}
`
	for _, c := range []struct {
		options Options
		want    string
	}{
		{Options{ProgressJSON: true}, want},
		{Options{ProgressJSON: true, JSON: true}, want},
		{Options{ProgressJSON: true, Quiet: true}, ""},
		{Options{}, ""},
	} {
		var b bytes.Buffer
		s := New(&b, c.options)
		clock := time.Now()
		s.now = func() time.Time { return clock }
		for _, step := range steps {
			clock = clock.Add(step.after)
			s.Stage(step.name, step.image, step.done, step.total)
		}
		if b.String() != c.want {
			t.Errorf("%+v: got %s", c.options, &b)
		}
	}
}

// A thing that was done has a line, unless a bar or the progress for programs shows it.
func TestDid(t *testing.T) {
	for _, c := range []struct {
		options Options
		want    string
	}{
		{Options{}, "fetched: file a, size 1 B\n"},
		{Options{Verbose: true}, "fetched: file a, size 1 B\n"},
		{Options{JSON: true}, `"level":"INFO","msg":"fetched","file":"a","size":"1 B"}` + "\n"},
		{Options{Quiet: true}, ""},
		{Options{ProgressJSON: true, JSON: true}, ""},
	} {
		var b bytes.Buffer
		New(&b, c.options).Did("fetched", "file", "a", "size", "1 B")
		if !strings.HasSuffix(b.String(), c.want) || c.want == "" && b.Len() > 0 {
			t.Errorf("%+v: got %q", c.options, &b)
		}
	}
	b := &bytes.Buffer{}
	terminal := New(b, Options{})
	terminal.tty = true
	if terminal.Did("fetched"); b.Len() > 0 {
		t.Errorf("on a terminal: %q", b)
	}
}

// What other programs print is left alone, unless each line must be an object.
func TestOutput(t *testing.T) {
	var b bytes.Buffer
	if New(&b, Options{Quiet: true}).Output() != io.Writer(&b) {
		t.Error("another writer")
	}
	for _, o := range []Options{{ProgressJSON: true}, {ProgressJSON: true, JSON: true, Quiet: true}} {
		b.Reset()
		if n, err := io.WriteString(New(&b, o).Output(), "one\n\x1btwo"); n != 8 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		var lines []string
		for line := range strings.Lines(b.String()) {
			var object struct{ Level, Msg, Line string }
			if err := json.Unmarshal([]byte(line), &object); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, object.Level, object.Msg, object.Line)
		}
		if want := []string{"INFO", "output", "one", "INFO", "output", `\x1btwo`}; !slices.Equal(lines, want) {
			t.Errorf("%+v: %q", o, lines)
		}
	}
}
