package main

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/cmd/internal/textfile"
	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/meta"
)

// metricsPrefix begins the names of the metrics.
const metricsPrefix = "puavo_client_"

// lastRun is what the metrics say of a run of update.
type lastRun struct {
	begun   time.Time
	offered meta.Name // zero if no mirror has answered
	fetched int64     // bytes
	compact int       // deltas that were applied
	code    int       // that it ends with
}

// measure writes the metrics file that is asked for, and returns the error of the command,
// or else that of the file. r is nil for a command that leaves what is said of runs as it is.
func measure(c *cli.Context, o client.Options, r *lastRun, err error) error {
	file := c.String("metrics-file")
	if file == "" {
		return err
	}
	if r != nil {
		r.code = command.ExitCode(c.Context, err, badInput...)
	}
	dir, failure := filepath.Abs(o.Dir)
	if failure == nil {
		m := metrics{dir: dir, run: r}
		if status, err := client.Look(o); err == nil {
			m.status = &status
		}
		failure = textfile.Change(context.WithoutCancel(c.Context), file, func(old []byte) []byte { return m.format(old, time.Now()) })
	}
	if err != nil && failure != nil {
		o.Log.Error("could not write the metrics of this run", "reason", failure)
		return err
	}
	if err == nil {
		err = failure
	}
	return err
}

// metrics are those of an images directory, whose path is their label. What is not known
// stays what the file has said of it.
type metrics struct {
	dir    string         // an absolute path
	status *client.Status // nil if it is not known
	run    *lastRun       // nil for none
	old    []byte         // the file
	b      bytes.Buffer
}

// format returns the metrics as a file, given the previous one.
func (m *metrics) format(old []byte, now time.Time) []byte {
	m.old = old
	m.b.Reset()
	m.addStatus()
	m.addRun(now)
	return m.b.Bytes()
}

func (m *metrics) addStatus() {
	var s client.Status
	if m.status != nil {
		s = *m.status
	}
	known := m.status != nil
	m.image("image_in_use", "The image in use.", s.InUse, known)
	held, since := s.Held != nil, time.Time{}
	if held {
		since = s.Held.Since
	}
	m.add("held", "Whether updates are held: 1, or 0 if they are installed.", number(held), known)
	if known && since.IsZero() {
		return
	}
	m.add("held_since_timestamp_seconds", "When the hold of updates began, since 1970.", float64(since.Unix()), known)
}

func (m *metrics) addRun(now time.Time) {
	var r lastRun
	if m.run != nil {
		r = *m.run
	}
	ran := m.run != nil
	failed := r.code != command.Done
	m.image("newest_offered", "Newest image that a mirror offered.", r.offered, r.offered != meta.Name{})
	m.add("last_run_timestamp_seconds", "When the last update ended, since 1970.", float64(now.Unix()), ran)
	m.add("last_run_success", "Whether the last update succeeded: 1, or 0 if it failed or was interrupted.", number(!failed), ran)
	m.add("last_exit_code", "The exit code of the last update.", float64(r.code), ran)
	m.add("last_success_timestamp_seconds", "When the last update that succeeded ended, since 1970.", float64(now.Unix()), ran && !failed)
	m.add("last_error_timestamp_seconds", "When the last update that failed or was interrupted ended, since 1970.", float64(now.Unix()), ran && failed)
	m.add("duration_seconds", "How long the last update took.", now.Sub(r.begun).Round(time.Millisecond).Seconds(), ran)
	m.add("compact_deltas", "Compact deltas that the last update that succeeded has applied.", float64(r.compact), ran && !failed)
	m.add("fetched_bytes", "Bytes fetched from mirrors by the last update, documents included.", float64(r.fetched), ran)
}

// add adds a metric, or keeps it if its value is not known.
func (m *metrics) add(name, help string, value float64, known bool, labels ...string) {
	name = metricsPrefix + name
	labels = append([]string{"images_dir", m.dir}, labels...)
	if known {
		textfile.Gauge(&m.b, name, help, value, labels...)
		return
	}
	start := strings.TrimSuffix(textfile.Sample(name, labels[:2]...), "} ")
	for line := range bytes.Lines(m.old) {
		if bytes.HasPrefix(line, []byte(start)) && bytes.HasSuffix(line, []byte("\n")) {
			textfile.Head(&m.b, name, help)
			m.b.Write(line)
			return
		}
	}
}

// image adds a metric that names an image, unless that is known not to exist.
func (m *metrics) image(name, help string, image meta.Name, known bool) {
	if !known || image != (meta.Name{}) {
		m.add(name, help, 1, known, "image", image.String())
	}
}

// number returns 1 for true, 0 for false.
func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
