package pull

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"puavo-image-repository/imagerepo/internal/ledger"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/published"
	"puavo-image-repository/imagerepo/internal/tuf"
	"puavo-image-repository/meta"
)

// write writes the documents that the copy will publish to c.scratch, and returns that open.
func (c *copied) write(ctx context.Context, series []meta.Series) (*mirror.Mirror, error) {
	if c.options.isWhole() && !c.root.IsZero() && c.lock != nil {
		if err := c.root.RemoveAll(editions); err != nil {
			return nil, err
		}
	}
	m, err := mirror.Open(c.scratch, c.options.NoSync, c.options.Log)
	if err != nil {
		return nil, err
	}
	if c.options.isWhole() {
		err = writeWhole(ctx, m, c.look[0].Documents)
	} else {
		err = c.writeOwn(ctx, m, series)
	}
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// writeWhole writes the documents of upstream.
func writeWhole(ctx context.Context, m *mirror.Mirror, documents map[string][]byte) error {
	for name, data := range documents {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := m.Root.MkdirAll(path.Dir(name), 0o777); err != nil {
			return err
		}
		if _, err := m.Root.Replace(mirror.TmpPath("document"), name, data); err != nil {
			return err
		}
	}
	return nil
}

// writeOwn makes documents of these series, and has them signed.
func (c *copied) writeOwn(ctx context.Context, m *mirror.Mirror, series []meta.Series) error {
	known, _, err := ledger.Load(m.State)
	if err != nil {
		return err
	}
	if err := c.writeDocuments(ctx, m, known, series); err != nil {
		return err
	}
	if c.options.Sign == nil || c.lock == nil { // a plan signs nothing
		return m.Root.RemoveAll(tuf.Dir)
	}
	if _, err = c.options.Sign.Sign(ctx, m.Root); err != nil {
		return err
	}
	return c.writeDocuments(ctx, m, known, series) // the page describes the root, which may be new
}

// writeDocuments writes the documents, and removes those of other series.
func (c *copied) writeDocuments(ctx context.Context, m *mirror.Mirror, known *ledger.Ledger, series []meta.Series) error {
	docs, err := published.Load(m.Root, func(string) bool { return true })
	if err != nil {
		return err
	}
	if err := m.Root.MkdirAll(mirror.CompactDir, 0o777); err != nil { // its list lies there
		return err
	}
	docs.SetPage(published.Page{Ledger: known, Log: c.options.Log})
	docs.Publish(withURLs(series, c.options.URL), nil, nil) // without torrents, whose seeds are the hosts of upstream
	if _, err := docs.Write(ctx); err != nil {
		return err
	}
	return removeOthers(m, series)
}

// removeOthers removes the meta of other series.
func removeOthers(m *mirror.Mirror, series []meta.Series) error {
	entries, err := fs.ReadDir(m.Root.FS(), mirror.MetaDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, isMeta := strings.CutSuffix(e.Name(), ".json")
		if isMeta && !slices.ContainsFunc(series, func(s meta.Series) bool { return s.Name == name }) {
			if err := m.Root.Remove(mirror.MetaDir + "/" + e.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

// withURLs returns series whose urls have this base, or are relative.
func withURLs(series []meta.Series, base string) (all []meta.Series) {
	url := func(file string) []string {
		if base != "" {
			file = base + "/" + file
		}
		return []string{file}
	}
	for _, s := range series {
		s.Images = slices.Clone(s.Images)
		for i := range s.Images {
			im := &s.Images[i]
			im.URLs, im.Diffs = url(im.Name.String()), slices.Clone(im.Diffs)
			for j := range im.Diffs {
				im.Diffs[j].URLs = url(meta.DeltaPath(im.Diffs[j].Filename))
			}
			im.Compact = slices.Clone(im.Compact)
			for j := range im.Compact {
				im.Compact[j].URLs = url(meta.CompactPath(im.Compact[j].Filename))
			}
		}
		all = append(all, s)
	}
	return all
}
