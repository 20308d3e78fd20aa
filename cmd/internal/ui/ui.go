// Package ui is the only place that prints progress and log lines. Both go to
// standard error; a progress bar is drawn only on a terminal, and not among lines
// of JSON. Without a bar, each step that is finished has a line.
//
// Progress for programs is one JSON object a line:
//
//	{"stage":"image_download","image":"<image>.img","done":1048576,"total":3221225472,"seconds_left":41}
//	{"stage":"delta_make","file":"rdiffs/<delta>.rdiff","done":52428800,"total":64424509440,"seconds_left":112}
//
// The first is of the client: done and total are bytes of the stage. The second is of the
// builder: file is a path in the mirror, done and total are the work of the whole run, in units
// that take about equally long, and total changes as more work becomes known. Unknown values
// are left out, such as seconds_left in the first seconds. There is one object for
// each stage or file that begins and, while it lasts, five a second at most, with the last
// that is known when all is done. Messages are JSON objects too then; they have a "level" and
// no "stage".
package ui

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"puavo-image-repository/meta/untrusted"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// Options say what a screen shows, and how.
type Options struct {
	Quiet   bool // errors alone, and no progress
	Verbose bool // messages from Info on, not from Warn on; Quiet wins
	JSON    bool // messages as JSON objects, for programs, and no bar
	// ProgressJSON is progress as JSON objects, for programs, and not a line for each thing
	// that is done. Quiet wins.
	ProgressJSON bool
}

// Screen is standard error, shared by log lines and a progress bar. Its methods
// can be called concurrently.
type Screen struct {
	mu  sync.Mutex
	w   io.Writer
	bar *progressbar.ProgressBar
	tty bool

	options Options
	step    step             // what is worked on
	left    left             // of the work
	last    stage            // that was written
	at      time.Time        // when it was, or when the bar was drawn
	now     func() time.Time // the clock
}

// New returns the screen for w. One that is no terminal shows no progress.
func New(w io.Writer, o Options) *Screen {
	f, ok := w.(*os.File)
	plain := o.Quiet || o.JSON || o.ProgressJSON
	return &Screen{w: w, options: o, tty: !plain && ok && term.IsTerminal(int(f.Fd())), now: time.Now}
}

// Did writes a line about a thing that was done, where no bar shows it.
func (s *Screen) Did(message string, attrs ...any) {
	if s.tty || s.options.Quiet || s.options.ProgressJSON {
		return
	}
	o := s.options
	o.Verbose = true
	s.logger(o).Info(message, attrs...)
}

// Shares reports whether the lines of Did go where w goes, such as into one mail, so that what
// they say need not be said there again.
func (s *Screen) Shares(w io.Writer) bool {
	if s.tty || s.options.Quiet || s.options.ProgressJSON {
		return false
	}
	one, isFile := s.w.(*os.File)
	other, areFiles := w.(*os.File)
	if !isFile || !areFiles {
		return false
	}
	a, err := one.Stat()
	b, otherErr := other.Stat()
	return err == nil && otherErr == nil && os.SameFile(a, b)
}

// Output returns what other programs that a run starts print to: the screen itself, or where
// each line must be an object, one that makes each line of theirs the "line" of one.
func (s *Screen) Output() io.Writer {
	if !s.options.ProgressJSON {
		return s.w
	}
	return &output{s.logger(Options{JSON: true, Verbose: true})}
}

// output is an io.Writer of lines. What a Write ends with is a line, too.
type output struct{ log *slog.Logger }

func (o *output) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		o.log.Info("output", "line", strings.TrimSuffix(line, "\n"))
	}
	return len(p), nil
}

// Write writes a line above the bar.
func (s *Screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bar == nil || s.bar.IsFinished() {
		return s.w.Write(p)
	}
	_ = s.bar.Clear()
	n, err := s.w.Write(p)
	_, _ = io.WriteString(s.w, s.bar.String())
	return n, err
}

// Log returns a logger that writes one line a message to the screen.
func (s *Screen) Log() *slog.Logger { return s.logger(s.options) }

func (s *Screen) logger(o Options) *slog.Logger {
	level := slog.LevelWarn
	switch {
	case o.Quiet:
		level = slog.LevelError
	case o.Verbose:
		level = slog.LevelInfo
	}
	if o.JSON {
		return slog.New(slog.NewJSONHandler(s, &slog.HandlerOptions{Level: level, ReplaceAttr: show}))
	}
	return slog.New(&lines{screen: s, level: level})
}

// show escapes and bounds a text of a message.
func show(_ []string, a slog.Attr) slog.Attr {
	switch v := a.Value.Any().(type) {
	case string:
		a.Value = slog.StringValue(untrusted.ShowLines(v))
	case error:
		a.Value = slog.StringValue(untrusted.ShowLines(v.Error()))
	}
	return a
}

// lines is a slog.Handler for people: "warning: message: key value, key value". Messages
// and values are escaped and bounded. A reason speaks for itself, without its key.
type lines struct {
	screen *Screen
	level  slog.Level
	attrs  []slog.Attr
}

func (l *lines) Enabled(_ context.Context, level slog.Level) bool { return level >= l.level }

func (l *lines) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &lines{l.screen, l.level, append(slices.Clip(l.attrs), attrs...)}
}

// WithGroup has no effect: nothing here uses groups.
func (l *lines) WithGroup(string) slog.Handler { return l }

func (l *lines) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	switch {
	case r.Level >= slog.LevelError:
		b.WriteString("error: ")
	case r.Level >= slog.LevelWarn:
		b.WriteString("warning: ")
	}
	b.WriteString(untrusted.Show(r.Message))
	sep := ": "
	add := func(a slog.Attr) bool {
		b.WriteString(sep)
		if a.Key != "reason" {
			b.WriteString(a.Key + " ")
		}
		b.WriteString(untrusted.Show(a.Value.String()))
		sep = ", "
		return true
	}
	for _, a := range l.attrs {
		add(a)
	}
	r.Attrs(add)
	b.WriteByte('\n')
	_, err := io.WriteString(l.screen, b.String())
	return err
}

// Bytes returns a number of bytes for people, such as 1.2 GiB.
func Bytes(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n), 0
	for f >= 1023.95 && unit < 4 {
		f /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", f, " KMGT"[unit])
}
