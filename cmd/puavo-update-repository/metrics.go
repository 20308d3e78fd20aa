package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/cmd/internal/textfile"
	"puavo-image-repository/cmd/puavo-update-repository/internal/compactcmd"
	"puavo-image-repository/imagerepo"
	"puavo-image-repository/imagerepo/audit"
	"puavo-image-repository/imagerepo/farm"
	"puavo-image-repository/imagerepo/trust"
)

// metrics are those of the last run, see package textfile. Each has the mirror as its
// label. A run that failed gives the numbers that it reached.
type metrics struct {
	imagerepo.Summary
	compact     *compactcmd.Outcome // nil if no compact deltas are wanted
	farm        *farm.Status        // nil if no workers can come
	mirror      string              // an absolute path
	end         time.Time
	lastSuccess int64 // in seconds since 1970; 0 is never
	duration    time.Duration
	failed      bool
	exitCode    int
	signed      []trust.RoleStatus
}

// record writes the metrics of a run, if they are wanted. It returns the error of the run, or if that
// has none that of writing.
func (m metrics) record(c *cli.Context, o imagerepo.Options, run error) error {
	file := c.String("metrics-file")
	if file == "" {
		return run
	}
	m.failed, m.exitCode = run != nil, command.ExitCode(c.Context, run, badInput...)
	failure := m.write(file, o.MirrorDir)
	if run == nil {
		return failure
	}
	if failure != nil {
		o.Log.Error("could not write the metrics of this run", "reason", failure)
	}
	return run
}

// write writes the metrics of a mirror to the file that a path points to. The last success
// is the one that the mirror remembers, as status prints it.
func (m metrics) write(file, mirror string) (err error) {
	if m.mirror, err = filepath.Abs(mirror); err != nil {
		return fmt.Errorf("metrics file %s: %w", file, err)
	}
	if last := audit.LastRunOf(mirror); last != nil && !last.Success.IsZero() {
		m.lastSuccess = last.Success.Unix()
	}
	return textfile.Write(file, m.format())
}

// format returns the metrics as a file.
func (m metrics) format() []byte {
	var b bytes.Buffer
	add := func(name, help string, value float64) {
		textfile.Gauge(&b, prefix+name, help, value, "mirror", m.mirror)
	}
	failed := 0.0
	if m.failed {
		failed = 1
	}
	add("last_run_timestamp_seconds", "When the last run ended, since 1970.", float64(m.end.Unix()))
	if m.lastSuccess > 0 {
		add("last_success_timestamp_seconds", "When the last run that succeeded ended, since 1970.", float64(m.lastSuccess))
	}
	add("last_run_success", "Whether the last run succeeded: 1, or 0 if it failed or was interrupted.", 1-failed)
	add("last_exit_code", "The exit code of the last run, see --help.", float64(m.exitCode))
	add("duration_seconds", "How long the last run took.", m.duration.Round(time.Millisecond).Seconds())
	add("series", "Series in the mirror after the last run.", float64(m.Series))
	add("images", "Images in the mirror after the last run.", float64(m.Images))
	add("image_bytes", "Size of these images.", float64(m.ImageBytes))
	add("deltas", "Deltas in the mirror after the last run, made or kept.", float64(m.Made+m.Kept))
	add("delta_bytes", "Size of these deltas.", float64(m.DeltaBytes))
	if m.Compact > 0 {
		add("compact_deltas", "Compact deltas that the last run had in the mirror.", float64(m.Compact))
		add("compact_bytes", "Size of these compact deltas.", float64(m.CompactBytes))
	}
	add("deltas_made", "Deltas that the last run made.", float64(m.Made))
	add("deltas_kept", "Deltas that the last run kept.", float64(m.Kept))
	add("deltas_dropped", "Deltas that the last run dropped because they were too large.", float64(m.Dropped))
	add("files_removed", "Old files that the last run removed.", float64(m.Removed))
	add("deltas_omitted", "Deltas that the last run could not make.", float64(m.Omitted))
	add("series_failed", "Series that the last run could not build.", float64(len(m.Summary.Failed)))
	add("errors", "Errors of the last run: 1 if it failed or was interrupted, else 0.", failed)
	if m.compact != nil {
		s := m.compact.Summary
		add("compact_deltas_made", "Compact deltas that the last run made.", float64(s.Made))
		add("compact_deltas_dropped", "Compact deltas that the last run did not publish, as hardly smaller than the others.", float64(s.Dropped))
		add("compact_deltas_left", "Compact deltas that the last run left for another.", float64(s.Left))
	}
	if m.farm != nil {
		addFarm(add, *m.farm)
	}
	appendExpiry(&b, m.mirror, m.signed)
	return b.Bytes()
}

// addFarm adds what workers did.
func addFarm(add func(name, help string, value float64), s farm.Status) {
	barred, done, failed := 0, 0, 0
	for _, w := range s.Workers {
		done += w.Done
		failed += w.Failed
		if w.Barred != "" {
			barred++
		}
	}
	add("farm_workers", "Workers that the last run had.", float64(len(s.Workers)))
	add("farm_workers_barred", "Workers that were wrong in the last run, and got no more jobs.", float64(barred))
	add("farm_jobs_done", "Jobs that workers did for the last run: deltas made, and compact deltas applied.", float64(done))
	add("farm_jobs_failed", "Jobs that workers could not do for the last run, or lost.", float64(failed))
	add("farm_deltas_rechecked", "Deltas of workers that the last run applied itself.", float64(s.Rechecked))
	add("farm_sent_bytes", "Bytes that the last run sent to workers: images, and deltas to apply.", float64(s.Sent))
	add("farm_received_bytes", "Bytes of deltas that the last run received from workers.", float64(s.Received))
}

// signedUntil returns the expiry of the mirror's signed metadata. It warns if the
// run changed what another run signed.
func signedUntil(o imagerepo.Options, changed bool) []trust.RoleStatus {
	signed, err := trust.StatusOf(o.MirrorDir, time.Now())
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		o.Log.Warn("the signed metadata does not verify", "reason", err)
	case o.Sign == nil && changed && signed != nil:
		o.Log.Warn("this run changed a signed mirror without signing it: clients that check signatures keep the old state; give --sign-keys")
	}
	return signed
}

// appendExpiry appends when the signatures of a mirror expire.
func appendExpiry(b *bytes.Buffer, mirror string, signed []trust.RoleStatus) {
	for i, s := range signed {
		if i == 0 {
			textfile.Head(b, prefix+expiresName, "When the signatures of a role expire, since 1970.")
		}
		fmt.Fprintf(b, "%s%d\n", sample(expiresName, mirror, "role", s.Role), s.Expires.Unix())
	}
}

// writeExpiry replaces only the expiry of the signatures in a mirror's metrics, for
// a renewal without a run. What is no regular file gets the expiry alone.
func writeExpiry(ctx context.Context, file, mirror string, signed []trust.RoleStatus) error {
	mirror, err := filepath.Abs(mirror)
	if err != nil {
		return fmt.Errorf("metrics file %s: %w", file, err)
	}
	var expiry bytes.Buffer
	appendExpiry(&expiry, mirror, signed)
	return textfile.Change(ctx, file, func(old []byte) []byte {
		return append(without(old, prefix+expiresName), expiry.Bytes()...)
	})
}

// without returns the lines in which a text is not.
func without(data []byte, text string) (lines []byte) {
	for line := range bytes.Lines(data) {
		if !bytes.Contains(line, []byte(text)) {
			lines = append(lines, line...)
		}
	}
	return lines
}

const (
	prefix      = "puavo_repository_"
	expiresName = "signature_expires_timestamp_seconds"
)

// sample returns the beginning of a metric's line, all but the value. more are
// further labels, a name and a value each.
func sample(name, mirror string, more ...string) string {
	return textfile.Sample(prefix+name, append([]string{"mirror", mirror}, more...)...)
}
