package tuf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"
)

// verified tells how far a chain was verified.
func verified(trusted *trustedmetadata.TrustedMetadata) string {
	var parts []string
	switch {
	case trusted == nil:
		return "nothing"
	case trusted.Timestamp != nil:
		parts = append(parts, "timestamp")
	}
	if trusted.Snapshot != nil {
		parts = append(parts, "snapshot")
	}
	if trusted.Targets[metadata.TARGETS] != nil {
		parts = append(parts, "targets")
	}
	return strings.Join(parts, " ")
}

// Verify returns what it verified before the first error, and ignores expiry.
func TestVerify(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(r *repo) (root []byte)
		want   string
		err    error
		says   string
	}{
		{"complete", func(*repo) []byte { return nil }, "timestamp snapshot targets", nil, ""},
		{"expired", func(r *repo) []byte {
			r.root.Signed.Expires = now.AddDate(-9, 0, 0)
			r.timestamp.Signed.Expires, r.snapshot.Signed.Expires, r.targets.Signed.Expires = now.AddDate(-9, 0, 0), now.AddDate(-9, 0, 0), now.AddDate(-9, 0, 0)
			r.signRoot(r.keys["root"])
			r.next()
			return r.files["1.root.json"]
		}, "timestamp snapshot targets", nil, ""},
		{"by an old root, keys unchanged", func(r *repo) []byte { r.rotate("root"); return nil }, "timestamp snapshot targets", nil, ""},
		{"by an old root, keys changed", func(r *repo) []byte { r.rotate("snapshot"); return nil }, "timestamp", ErrRefused, "too few trusted keys have signed it"},
		{"no root", func(*repo) []byte { return []byte("{}") }, "nothing", nil, "missing"},
		{"a root of another kind", func(r *repo) []byte {
			return bytes.Replace(r.files["1.root.json"], []byte(`"version":1`), []byte(`"version":[]`), 1)
		}, "nothing", nil, "signed.version is an array, want a whole number"},
		{"a timestamp of another kind", func(r *repo) []byte {
			r.files["timestamp.json"] = []byte(`{"signed":{"meta":7}}`)
			return nil
		}, "", ErrRefused, "not trusted: tuf/timestamp.json: signed.meta is a number, want an object"},
		{"no timestamp", func(r *repo) []byte { delete(r.files, "timestamp.json"); return nil }, "", fs.ErrNotExist, "not exist"},
		{"no snapshot", func(r *repo) []byte { delete(r.files, "1.snapshot.json"); return nil }, "timestamp", ErrRefused, "tuf/1.snapshot.json is named but missing"},
		{"changed targets", func(r *repo) []byte { r.files["1.targets.json"][9] ^= 1; return nil }, "timestamp snapshot", ErrRefused, "tuf/1.targets.json"},
		{"long targets", func(r *repo) []byte { r.files["1.targets.json"] = append(r.files["1.targets.json"], ' '); return nil }, "timestamp snapshot", ErrEndlessData, "endless data"},
		{"targets that describe nothing", func(r *repo) []byte {
			r.targets.Signed.Targets["index.json"] = nil
			r.files["1.targets.json"] = sign(r.targets, r.keys["targets"])
			r.signSnapshot(r.keys["snapshot"])
			r.signTimestamp(r.keys["timestamp"])
			return nil
		}, "timestamp snapshot", ErrRefused, "invalid metadata"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRepo(t)
			first := r.files["1.root.json"]
			root := c.change(r)
			if root == nil {
				root = first
			}
			trusted, err := Verify(t.Context(), root, reader(r.files))
			if got := verified(trusted); got != c.want {
				t.Errorf("verified %q, want %q", got, c.want)
			}
			if (err != nil) != (c.says != "") || c.err != nil && !errors.Is(err, c.err) || !strings.Contains(fmt.Sprint(err), c.says) {
				t.Errorf("%v, want %v that says %q", err, c.err, c.says)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := Verify(ctx, first, reader(r.files)); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled: %v", err)
			}
		})
	}
}

// What is said of a root that is none is escaped and bounded.
func TestRootTexts(t *testing.T) {
	long := strings.Repeat("9", 100_000)
	for _, root := range []string{
		`{"signed":{"_type":"\u001b[2J` + long + `"}}`,
		`{"signed":{"_type":"root","version":1` + long + `}}`,
		`{"signed":{"_type":"root","version":1},"signatures":[{"keyid":"\u001b"},{"keyid":"\u001b"}]}`,
	} {
		_, err := Verify(t.Context(), []byte(root), reader(nil))
		for _, err := range []error{err, CheckRoot([]byte(root))} {
			if said := fmt.Sprint(err); err == nil || len(said) > 1024 || strings.Contains(said, "\x1b") {
				t.Errorf("%.50s: %d bytes: %.2000q", root, len(said), said)
			}
		}
	}
}
