package mirror

import (
	"encoding/json"
	"time"

	"puavo-image-repository/meta"
)

// runFile holds what is remembered of the last run.
const runFile = Private + "/run.json"

// maxRun bounds it, in bytes: the series files may be part of the options.
const maxRun = meta.MaxDocument

// Run is what is remembered of the last run that got the lock.
type Run struct {
	Began   time.Time `json:"began"`
	Seconds float64   `json:"seconds"` // it took
	// Rate is the bytes of work a second, as the builder counts them, of the last
	// run that had enough to do to tell.
	Rate float64 `json:"rate,omitempty"`
	// CompactRate is the bytes of work a second of the last run that made compact deltas, as
	// package compactdelta counts them; less than that of what it did not end in its time.
	CompactRate float64 `json:"compact_rate,omitempty"`
	// Error is why it failed, "" if it did not.
	Error string `json:"error,omitempty"`
	// Success is when the last run that did not fail ended, zero if none did.
	Success time.Time `json:"success,omitzero"`
	// Flushed says that all that this run and those before have put into the mirror was
	// flushed to the disk.
	Flushed bool `json:"flushed,omitempty"`
	// Options are those of the run that the next one may need.
	Options json.RawMessage `json:"options,omitempty"`
}

// LastRun returns what is remembered of the last run. If nothing is, or it
// cannot be read, the zero Run.
func (m *Mirror) LastRun() Run {
	var r Run
	data, err := m.Root.ReadFile(runFile, maxRun)
	if err != nil || json.Unmarshal(data, &r) != nil {
		return Run{}
	}
	return r
}

// PutRun remembers a run.
func (m *Mirror) PutRun(r Run) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	_, err = m.Root.Replace(TmpPath("run.json"), runFile, append(data, '\n'))
	return err
}
