package pull

import (
	"encoding/json"
	"time"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/pull/internal/upstream"
	"puavo-image-repository/meta"
)

const (
	recordPath = private + "/pull.json"
	maxRecord  = 64 << 20 // bytes
)

// Record is what is remembered of runs: how the last one went, and what upstream had. Unknown
// keys are skipped.
type Record struct {
	Began   time.Time `json:"began"`
	Seconds float64   `json:"seconds"`
	Error   string    `json:"error,omitempty"`   // why it failed
	Success time.Time `json:"success,omitzero"`  // when the last run ended that did not fail
	Read    time.Time `json:"verified,omitzero"` // when a run began that has read all files
	Whole   bool      `json:"whole"`             // the copy has all of upstream, and its documents
	// Upstreams are those of the last run that could read all of them.
	Upstreams []Upstream `json:"upstreams"`
	Lacks     Lag        `json:"lacks"`
	// Useless are deltas that were made here and are not worth it, or have no room, by their
	// paths, with the SHA-512 of base and target. They are forgotten once no upstream lists both.
	Useless map[string]string `json:"useless,omitempty"`
}

// Upstream is what one had.
type Upstream struct {
	URL     string              `json:"url"` // of the mirror that said so, without a password
	Seen    time.Time           `json:"seen"`
	Changed time.Time           `json:"changed"`          // when a run first saw what it has
	Expires time.Time           `json:"expires,omitzero"` // when its signatures do
	Digest  string              `json:"digest"`           // of its documents
	Series  map[string][]string `json:"series"`           // names of images
}

// Lag is what a copy lacks of what was chosen.
type Lag struct {
	Images int   `json:"images"`
	Deltas int   `json:"deltas"`
	Bytes  int64 `json:"bytes"` // of both
}

// readRecord returns what is remembered, the zero Record if nothing is or it is damaged.
func readRecord(root atomicfile.Dir) (r Record) {
	data, err := root.ReadFile(recordPath, maxRecord)
	if err != nil || json.Unmarshal(data, &r) != nil {
		return Record{}
	}
	return r
}

// RecordOf returns what is remembered of the runs for a copy, false for a directory that is
// none.
func RecordOf(dir string) (Record, bool) {
	root, err := atomicfile.Open(dir)
	if err != nil {
		return Record{}, false
	}
	defer root.Close()
	r := readRecord(root)
	return r, !r.Began.IsZero()
}

// remember records how a run went, and returns its error.
func (c *copied) remember(began time.Time, failure error) (Record, error) {
	r := c.record
	r.Began, r.Seconds, r.Error = began, time.Since(began).Seconds(), ""
	if failure != nil {
		r.Error = failure.Error()
	} else {
		r.Success, r.Whole = time.Now(), c.options.isWhole()
		if c.verified {
			r.Read = began
		}
	}
	if len(c.look) == len(c.sources) && (failure == nil || r.Success.IsZero()) {
		r.Upstreams, r.Useless = c.upstreams(began), c.listedUseless()
	}
	if err := c.lag(&r); err != nil && failure == nil {
		failure = err
	}
	data, err := json.MarshalIndent(r, "", " ")
	if err == nil {
		_, err = c.root.Replace(recordPath+".new", recordPath, append(data, '\n'))
	}
	if failure == nil {
		failure = err
	}
	return r, failure
}

// upstreams describes what was seen.
func (c *copied) upstreams(now time.Time) (all []Upstream) {
	for _, e := range c.look {
		u := Upstream{URL: e.Mirror, Seen: now, Changed: now, Expires: e.Expires, Digest: hexadecimal(e.Digest), Series: make(map[string][]string)}
		for _, s := range e.Series {
			u.Series[s.Name] = names(s)
		}
		for _, before := range c.record.Upstreams {
			if before.Digest == u.Digest {
				u.Changed = before.Changed
			}
		}
		all = append(all, u)
	}
	return all
}

func names(s meta.Series) []string {
	all := []string{}
	for _, im := range s.Images {
		all = append(all, im.Name.String())
	}
	return all
}

// lag counts what the copy lacks of what was chosen, as far as upstream could be read.
func (c *copied) lag(r *Record) error {
	if len(c.look) != len(c.sources) {
		return nil
	}
	has, err := c.has()
	if err != nil {
		return err
	}
	here := filesOf(has)
	r.Lacks = Lag{}
	for name, sums := range filesOf(c.chosen()) {
		if here[name].SHA512 == sums.SHA512 {
			continue
		}
		if isImage(name) {
			r.Lacks.Images++
		} else {
			r.Lacks.Deltas++
		}
		r.Lacks.Bytes += sums.Size
	}
	return nil
}

// seriesBefore returns the images that upstreams had when the last run succeeded, but for
// those of sources that are not read any more.
func (c *copied) seriesBefore() (all []meta.Series) {
	for _, u := range c.record.Upstreams {
		if !isOf(c.look, u.URL) {
			continue
		}
		for name, files := range u.Series {
			s := meta.Series{Name: name}
			for _, file := range files {
				if n, err := meta.ParseOldName(file); err == nil {
					s.Images = append(s.Images, meta.Image{Name: n})
				}
			}
			all = append(all, s)
		}
	}
	return all
}

// isOf reports whether a mirror is one of the upstreams'.
func isOf(look []*upstream.Edition, url string) bool {
	for _, e := range look {
		for _, m := range e.Source.Mirrors {
			if m.String() == url {
				return true
			}
		}
	}
	return false
}
