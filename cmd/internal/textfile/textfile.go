// Package textfile writes metrics of commands for the textfile collector of the Prometheus
// node exporter, in the format of
// https://prometheus.io/docs/instrumenting/exposition_formats/. All are gauges:
//
//	# HELP puavo_repository_images Images in the mirror after the last run.
//	# TYPE puavo_repository_images gauge
//	puavo_repository_images{mirror="/srv/mirror"} 2
package textfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"puavo-image-repository/cmd/internal/outfile"
	"puavo-image-repository/imagerepo/through"
	"puavo-image-repository/meta/untrusted"
)

// Gauge appends a metric with one value. labels are a name and a value each.
func Gauge(b *bytes.Buffer, name, help string, value float64, labels ...string) {
	Head(b, name, help)
	fmt.Fprintf(b, "%s%s\n", Sample(name, labels...), strconv.FormatFloat(value, 'f', -1, 64))
}

// Head appends what stands before the lines of a metric. help is one line.
func Head(b *bytes.Buffer, name, help string) {
	fmt.Fprintf(b, "# HELP %s %s\n# TYPE %[1]s gauge\n", name, help)
}

// Sample returns the beginning of a metric's line, all but the value. labels are a name
// and a value each; a value that is no UTF-8 is made such.
func Sample(name string, labels ...string) string {
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
	var pairs []string
	for i := 0; i+1 < len(labels); i += 2 {
		pairs = append(pairs, fmt.Sprintf(`%s="%s"`, labels[i], escape.Replace(strings.ToValidUTF8(labels[i+1], "\uFFFD"))))
	}
	return fmt.Sprintf("%s{%s} ", name, strings.Join(pairs, ","))
}

// maxFile bounds a metrics file, in bytes.
const maxFile = 1 << 20

// Write writes a metrics file, which everybody may read, to the file that a path points to: a regular
// file is replaced, and a device or a pipe is written to. Errors name the file and say what to
// do.
func Write(file string, data []byte) error {
	return explain(file, through.Write(file, data, func(file string) error { return replace(file, data) }))
}

// Change is Write of what format returns, given the old file, which is empty if there is
// none, or if a path points to what is not a regular file.
func Change(ctx context.Context, file string, format func(old []byte) []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return explain(file, through.Write(file, format(nil), func(file string) error {
		old, err := untrusted.ReadFile(ctx, file, maxFile)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return replace(file, format(old))
	}))
}

func replace(file string, data []byte) error { return outfile.Write(file, 0o644, data) }

// explain returns an error of a metrics file with what to do, nil for nil.
func explain(file string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("metrics file %s: %w; check its directory, or give another file", file, err)
}
