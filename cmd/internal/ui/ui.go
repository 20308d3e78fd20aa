// Package ui is the only place that prints progress and log lines. Both go to
// standard error; a progress bar is drawn only on a terminal, and not among lines
// of JSON.
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
	JSON    bool // messages as JSON objects, for programs, and no progress
}

// Screen is standard error, shared by log lines and a progress bar. Its methods
// can be called concurrently.
type Screen struct {
	mu  sync.Mutex
	w   io.Writer
	bar *progressbar.ProgressBar
	tty bool

	options Options
}

// New returns the screen for w. One that is no terminal shows no progress.
func New(w io.Writer, o Options) *Screen {
	f, ok := w.(*os.File)
	return &Screen{w: w, options: o, tty: !o.Quiet && !o.JSON && ok && term.IsTerminal(int(f.Fd()))}
}

// Progress shows how many bytes of work are done, the rate and the time left.
func (s *Screen) Progress(done, total int64) {
	if !s.tty || total == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// Less than before, after a full bar, is a new start: the next route to an
	// image.
	if s.bar == nil || s.bar.IsFinished() && done < total {
		s.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(s.w),
			progressbar.OptionShowBytes(true),
			progressbar.OptionShowCount(),
			progressbar.OptionUseIECUnits(true),
			progressbar.OptionSetPredictTime(true),
			progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionClearOnFinish(),
		)
	}
	// A bar that cannot be drawn is no reason to stop the work.
	_ = s.bar.Set64(min(done, total))
}

// Done removes the bar.
func (s *Screen) Done() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bar != nil {
		_ = s.bar.Clear()
		s.bar = nil
	}
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
func (s *Screen) Log() *slog.Logger {
	level := slog.LevelWarn
	switch {
	case s.options.Quiet:
		level = slog.LevelError
	case s.options.Verbose:
		level = slog.LevelInfo
	}
	if s.options.JSON {
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
