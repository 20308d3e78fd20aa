package pullcmd

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"puavo-image-repository/cmd/internal/textfile"
	"puavo-image-repository/imagerepo/pull"
)

const prefix = "puavo_pull_"

// metrics are those of a run, see package textfile. Each has the copy as its label. A run that
// failed gives the numbers that it reached.
type metrics struct {
	summary  pull.Summary
	dir      string // an absolute path
	end      time.Time
	exitCode int
	failed   bool
}

// write writes the metrics of a copy to what a path leads to.
func (m metrics) write(file, dir string) (err error) {
	if m.dir, err = filepath.Abs(dir); err != nil {
		return fmt.Errorf("metrics file %s: %w", file, err)
	}
	return textfile.Write(file, m.format())
}

// format returns the metrics as a file.
func (m metrics) format() []byte {
	var b bytes.Buffer
	s, r := m.summary, m.summary.Record
	success := 1.0
	if m.failed {
		success = 0
	}
	add := func(name, help string, value float64) {
		textfile.Gauge(&b, prefix+name, help, value, "mirror", m.dir)
	}
	add("last_run_timestamp_seconds", "When the last run ended, since 1970.", float64(m.end.Unix()))
	if !r.Success.IsZero() {
		add("last_success_timestamp_seconds", "When the last run that succeeded ended, since 1970.", float64(r.Success.Unix()))
	}
	add("last_run_success", "Whether the last run succeeded: 1, or 0 if it failed or was interrupted.", success)
	add("last_exit_code", "The exit code of the last run, see --help.", float64(m.exitCode))
	add("duration_seconds", "How long the last run took.", time.Duration(s.Seconds*float64(time.Second)).Round(time.Millisecond).Seconds())
	add("fetched_bytes", "Bytes that the last run fetched from upstream.", float64(s.Fetched))
	add("files", "Images and deltas that the last run got.", float64(s.Files))
	add("images_rebuilt", "Images that the last run made from others.", float64(s.Rebuilt))
	add("deltas_made", "Deltas that the last run made.", float64(s.Made))
	add("files_removed", "Old files that the last run removed.", float64(s.Removed))
	add("lag_images", "Images that were chosen and that the copy lacks.", float64(r.Lacks.Images))
	add("lag_deltas", "Deltas that were chosen and that the copy lacks.", float64(r.Lacks.Deltas))
	add("lag_bytes", "Size of what was chosen and the copy lacks.", float64(r.Lacks.Bytes))
	m.upstreams(&b, "upstream_seen_timestamp_seconds", "When a run last copied what upstream had, since 1970.", func(u pull.Upstream) time.Time { return u.Seen })
	m.upstreams(&b, "upstream_changed_timestamp_seconds", "When a run first saw what upstream had, since 1970.", func(u pull.Upstream) time.Time { return u.Changed })
	m.upstreams(&b, "upstream_expires_timestamp_seconds", "When the timestamp of upstream expires, since 1970.", func(u pull.Upstream) time.Time { return u.Expires })
	return b.Bytes()
}

// upstreams appends a time for each upstream that has it.
func (m metrics) upstreams(b *bytes.Buffer, name, help string, of func(pull.Upstream) time.Time) {
	head := false
	for _, u := range m.summary.Record.Upstreams {
		at := of(u)
		if at.IsZero() {
			continue
		}
		if !head {
			textfile.Head(b, prefix+name, help)
			head = true
		}
		fmt.Fprintf(b, "%s%s\n", textfile.Sample(prefix+name, "mirror", m.dir, "upstream", u.URL), strconv.FormatInt(at.Unix(), 10))
	}
}
