package farmcmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"text/tabwriter"
	"time"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/cmd/internal/ui"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/farm"
	"puavo-image-repository/meta/untrusted"
)

// ReadStatus returns what the workers of a mirror do, or did in the last run that had a farm.
func ReadStatus(mirrorDir string) (s farm.Status, err error) {
	dir, err := atomicfile.Open(mirrorDir)
	if err != nil {
		return s, err
	}
	defer dir.Close()
	data, err := dir.ReadFile(statusFile, maxStatus)
	if errors.Is(err, fs.ErrNotExist) {
		return s, fmt.Errorf("%s was not built with --farm", mirrorDir)
	} else if err != nil {
		return s, err
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("%s: %w", filepath.Join(mirrorDir, statusFile), err)
	}
	return s, nil
}

// shown is a status as JSON: each worker has its rate too.
type shown struct {
	farm.Status
	Workers []shownWorker `json:"workers"`
}

type shownWorker struct {
	farm.Worker
	PerHour float64 `json:"jobs_per_hour"`
}

// perHour returns how many jobs a worker does in an hour of its work, 0 if that is not known.
func perHour(w farm.Worker) float64 {
	if w.Seconds <= 0 {
		return 0
	}
	return float64(w.Done) * 3600 / w.Seconds
}

// PrintJSON prints what workers do as JSON.
func PrintJSON(w io.Writer, s farm.Status) error {
	all := shown{s, []shownWorker{}}
	for _, k := range s.Workers {
		all.Workers = append(all.Workers, shownWorker{k, perHour(k)})
	}
	return command.JSON(w, all)
}

// PrintStatus prints what workers do.
func PrintStatus(w io.Writer, s farm.Status) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "worker\tdone\tfailed\trunning\tjobs an hour\t")
	for _, k := range s.Workers {
		rate, note := "-", ""
		if n := perHour(k); n > 0 {
			rate = fmt.Sprintf("%.0f", n)
		}
		if k.Gone {
			note = "gone"
		}
		if k.Barred != "" {
			note = "gets no more jobs: " + k.Barred
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%s\t%s\n", untrusted.Show(k.Name), k.Done, k.Failed, k.Running, rate, untrusted.Show(note))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	state := "at work"
	if s.Ended {
		state = "ended"
	}
	left := ""
	if s.Seconds > 0 {
		left = fmt.Sprintf(", about %v", time.Duration(s.Seconds*float64(time.Second)).Round(time.Second))
	}
	_, err := fmt.Fprintf(w, "%s sent to workers, %s received; %d of their deltas applied here\n%s %s (%s); %d jobs left%s\n",
		ui.Bytes(s.Sent), ui.Bytes(s.Received), s.Rechecked, untrusted.Show(s.Address), state, s.Time.Local().Format("2006-01-02 15:04:05"), s.Left, left)
	return err
}
