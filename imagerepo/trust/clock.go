package trust

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/tuf"
)

const (
	// slack is how much earlier than the last signing the clock may be.
	slack = time.Hour
	// clockName is the file of a keys directory with the time of the last signing of a
	// root, in RFC 3339.
	clockName = ".signed"
	// signedName is the file of a mirror with a signedRecord.
	signedName = mirror.Private + "/signed.json"
	// maxClock bounds the size of both files, in bytes.
	maxClock = 1 << 10
)

// signedRecord says when a timestamp was signed of which the version does not.
type signedRecord struct {
	Version int64     `json:"version"`
	Signed  time.Time `json:"signed"`
}

// checkClock returns an error for a clock that is behind the last signing of a root.
func (k *Keys) checkClock() error {
	data, err := k.dir.ReadFile(clockName, maxClock)
	if err != nil {
		return nil // keys of a version that did not record it
	}
	last, err := time.Parse(time.RFC3339, strings.TrimSpace(string(data)))
	if err != nil {
		k.options.Log.Warn("this record of the last signing is damaged, so the clock cannot be checked", "file", k.path(clockName), "reason", err)
		return nil
	}
	return k.notBefore(last, k.path(clockName), "if the clock is right, remove that file or give --ignore-clock")
}

// recordClock records the signing of a root, which is done if it cannot.
func (k *Keys) recordClock() {
	if err := k.write(clockName, []byte(k.options.time().Format(time.RFC3339)+"\n"), 0o600); err != nil {
		k.options.Log.Warn("could not record the time of signing", "file", k.path(clockName), "reason", err)
	}
}

// notBefore returns an error for a clock that is behind a time that a file records.
func (k *Keys) notBefore(last time.Time, file, advice string) error {
	now := k.options.time()
	if k.options.IgnoreClock || last.Sub(now) <= slack {
		return nil
	}
	return fmt.Errorf("the clock says %s, but %[3]s has a signing at %[2]s, so new signatures would expire too early; set the clock, or %[4]s",
		now.Format(time.RFC3339), last.UTC().Format(time.RFC3339), file, advice)
}

// checkMirror returns the error that signing a mirror would begin with, nil for none or
// one that is not there yet. What else is wrong with the mirror its builder says.
func (k *Keys) checkMirror(mirrorDir string) error {
	dir, err := atomicfile.Open(mirrorDir)
	if err != nil {
		return k.checkClock()
	}
	defer dir.Close()
	_, err = k.newSigning(context.Background(), dir) // a few small files
	return err
}

// checkClock returns an error for a clock that is behind the last signing of the mirror,
// or of a root.
func (s *signing) checkClock() error {
	file := filepath.Join(s.dir.Name(), tuf.MetadataPath(Timestamp, 0))
	if err := s.keys.notBefore(s.lastSigned(), file, "if the clock is right, give --ignore-clock once"); err != nil {
		return err
	}
	return s.keys.checkClock()
}

// lastSigned returns when the mirror was signed last, the zero time if it never was. The
// version of its timestamp says, unless a record does.
func (s *signing) lastSigned() time.Time {
	version := s.before.version(Timestamp)
	if version == 0 {
		return time.Time{}
	}
	var record signedRecord
	data, err := s.dir.ReadFile(signedName, maxClock)
	if err == nil && json.Unmarshal(data, &record) == nil && record.Version == version {
		return record.Signed
	}
	return time.Unix(version, 0)
}

// addRecord adds a record to the files to be written if the version of a new timestamp
// is no time at which the mirror was signed.
func (s *signing) addRecord(version int64) error {
	if time.Unix(version, 0).Sub(s.now) <= slack {
		return nil
	}
	data, err := json.Marshal(signedRecord{version, s.now})
	s.add(signedName, append(data, '\n'))
	return err
}
