package farm

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"puavo-image-repository/imagerepo/internal/work"
	"puavo-image-repository/meta"
)

// The messages of a farm are JSON, see the documentation of the package. What they are checked for
// is here; jobs are those of package work.

// state is what a worker says of itself.
type state struct {
	Worker   string    `json:"worker"`
	Running  []work.ID `json:"running"`
	Fetching []work.ID `json:"fetching,omitempty"`
}

const (
	maxName    = 100  // bytes of the name of a worker
	maxRunning = 4096 // jobs in each list
)

func checkName(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("the name of a worker has 1 to %d characters", maxName)
	}
	for _, c := range name {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != '.' && c != '_' {
			return errors.New("the name of a worker has letters, digits and -._ only")
		}
	}
	if name[0] == '.' { // it is a part of a URL
		return errors.New("the name of a worker does not begin with a dot")
	}
	return nil
}

func parseState(data []byte) (w state, err error) {
	if err := json.Unmarshal(data, &w); err != nil {
		return w, meta.PlainJSON(err)
	}
	if max(len(w.Running), len(w.Fetching)) > maxRunning {
		return w, errors.New("too many jobs")
	}
	return w, checkName(w.Worker)
}

// reply is what the builder answers to it.
type reply struct {
	URL    string    `json:"url"`
	Stop   []work.ID `json:"stop,omitempty"`
	Barred bool      `json:"barred,omitempty"`
}

// report is what became of a job.
type report struct {
	Worker   string  `json:"worker"`
	Job      work.ID `json:"job"`
	Size     int64   `json:"size,omitempty"`
	TooLarge bool    `json:"too_large,omitempty"`
	Wrong    bool    `json:"wrong,omitempty"`
	Error    string  `json:"error,omitempty"`
}

// maxError bounds report.Error, in bytes.
const maxError = 2000

func parseReport(data []byte) (r report, err error) {
	if err := json.Unmarshal(data, &r); err != nil {
		return r, meta.PlainJSON(err)
	}
	if r.Size < 0 || len(r.Error) > maxError {
		return r, errors.New("a report that makes no sense")
	}
	return r, checkName(r.Worker)
}

func (r report) outcome() string {
	switch {
	case r.Error != "":
		return "failed: " + r.Error
	case r.TooLarge:
		return "too large"
	case r.Wrong:
		return "wrong"
	default:
		return "done"
	}
}

// encode returns a message as JSON.
func encode(message any) []byte {
	data, err := json.Marshal(message)
	if err != nil {
		panic(err) // they have no values that JSON has not
	}
	return data
}

func tlsListener(l net.Listener, c *tls.Config) net.Listener {
	c = c.Clone()
	c.NextProtos = []string{"http/1.1"}
	return tls.NewListener(l, c)
}

// quiet logs requests at level Debug: there are many.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, l slog.Level) bool {
	return q.Handler.Enabled(ctx, min(l, slog.LevelDebug))
}

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	r.Level = slog.LevelDebug
	return q.Handler.Handle(ctx, r)
}

func (q quiet) WithAttrs(a []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(a)} }

func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }
