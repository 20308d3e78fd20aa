package ui

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"puavo-image-repository/meta/untrusted"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// step is what is worked on.
type step struct {
	stage, file string
	ofRun       bool // progress is that of all the work of a run, in units that are no bytes
}

// stage is progress for programs.
type stage struct {
	Name    string `json:"stage"`
	Image   string `json:"image,omitempty"`
	File    string `json:"file,omitempty"`
	Done    *int64 `json:"done,omitempty"`
	Total   int64  `json:"total,omitempty"`
	Seconds *int64 `json:"seconds_left,omitempty"`
}

// every is how often progress is written for programs, and frame how often a bar is drawn.
const (
	every = 200 * time.Millisecond
	frame = 100 * time.Millisecond
)

// forPrograms reports whether progress is written for programs.
func (s *Screen) forPrograms() bool { return s.options.ProgressJSON && !s.options.Quiet }

// Working says which stage a run is in, and which file of a mirror it works on, "" if that
// is none. From then on Progress is that of all the work of the run, in units that take about
// as long as each other.
func (s *Screen) Working(name, file string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.step = step{name, file, true}
	if s.forPrograms() {
		now := stage{Name: name, File: file}
		if s.last.Done != nil && file != "" {
			now.Done, now.Total = s.last.Done, s.last.Total
		}
		s.write(now)
	}
}

// Progress shows how much work is done, and the time left. The units are bytes, unless
// Working was called.
func (s *Screen) Progress(done, total int64) {
	if total == 0 || !s.tty && !s.forPrograms() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tty {
		s.draw(done, total)
	} else if s.step.ofRun {
		s.write(stage{Name: s.step.stage, File: s.step.file, Done: &done, Total: total})
	}
}

// Stage says which stage a run is in, of which image, "" if that is not known, and how many
// bytes of the stage are done, of 0 while that is not known.
func (s *Screen) Stage(name, image string, done, total int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.step = step{stage: name, file: image}
	if !s.forPrograms() {
		return
	}
	now := stage{Name: name, Image: image, Total: total}
	if total > 0 {
		now.Done = &done
	}
	if s.isNew(now) {
		s.left = left{}
	}
	s.write(now)
}

func (s *Screen) isNew(now stage) bool {
	return now.Name != s.last.Name || now.Image != s.last.Image || now.File != s.last.File
}

// write writes progress for programs, unless it comes too soon after the last.
func (s *Screen) write(now stage) {
	isWhole := now.Done != nil && *now.Done == now.Total && (s.last.Done == nil || *s.last.Done != now.Total)
	if !s.isNew(now) && !isWhole && s.now().Sub(s.at) < every {
		return
	}
	s.last, s.at = now, s.now()
	if now.Done != nil {
		if left, known := s.left.at(s.at, *now.Done, now.Total); known {
			seconds := int64(left.Round(time.Second) / time.Second)
			now.Seconds = &seconds
		}
	}
	line, err := json.Marshal(now)
	if err == nil {
		_, _ = s.w.Write(append(line, '\n')) // as with the bar
	}
}

// draw draws the bar.
func (s *Screen) draw(done, total int64) {
	now := s.now()
	if s.bar != nil && !s.bar.IsFinished() && done < total && now.Sub(s.at) < frame {
		return
	}
	s.at = now
	columns := s.columns()
	// Less than before, after a full bar, is a new start: the next route to an
	// image.
	if s.bar == nil || s.bar.IsFinished() && done < total {
		s.bar = s.newBar(columns, total)
	}
	if s.bar.GetMax64() != total {
		s.bar.ChangeMax64(total)
	}
	rest := ""
	if left, known := s.left.at(now, done, total); known {
		rest = shortly(left)
	}
	s.bar.Describe(s.step.describe(rest, columns-apart))
	// A bar that cannot be drawn is no reason to stop the work.
	_ = s.bar.Set64(min(done, total))
}

// The columns of a line that are not for what is worked on and the time left: those of a
// short bar and of the percentage; and how wide a terminal must be for the bytes, too.
const (
	apart = 12
	wide  = 72
)

func (s *Screen) newBar(columns int, total int64) *progressbar.ProgressBar {
	bytes := !s.step.ofRun && columns >= wide
	options := []progressbar.Option{
		progressbar.OptionSetWriter(s.w),
		progressbar.OptionSetPredictTime(false),
		progressbar.OptionSetElapsedTime(false),
		progressbar.OptionSetWidth(20),
		progressbar.OptionClearOnFinish(),
	}
	if bytes {
		options = append(options, progressbar.OptionShowBytes(true), progressbar.OptionShowCount(), progressbar.OptionUseIECUnits(true))
	}
	return progressbar.NewOptions64(total, options...)
}

// columns returns the width of the terminal.
func (s *Screen) columns() int {
	if f, ok := s.w.(*os.File); ok {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 {
			return columns
		}
	}
	return 80
}

// describe says in at most this many columns, but no more than are pleasant, what is worked
// on and how much time is left. Of a long name its end is shown: the version.
func (s step) describe(left string, columns int) string {
	verb := s.stage[strings.LastIndex(s.stage, "_")+1:]
	name := path.Base(s.file)
	if s.file == "" {
		name = ""
	}
	name = untrusted.Show(strings.TrimSuffix(name, path.Ext(name)))
	room := min(columns, 50) - len(verb) - len(left) - 2
	if arch := strings.LastIndex(name, "-"); utf8.RuneCountInString(name) > room && arch > 0 {
		name = name[:arch]
	}
	if runes := []rune(name); len(runes) > room {
		name = "…" + string(runes[len(runes)-max(room-1, 0):])
	}
	return strings.Join(strings.Fields(verb+" "+name+" "+left), " ")
}

// shortly returns a time left for people, such as 1h05m, 3m20s or 12s.
func shortly(d time.Duration) string {
	switch d = d.Round(time.Second); {
	case d >= 100*time.Hour:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	case d >= time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%ds", d/time.Second)
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
