package client_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/imagerepo/client"
)

// The stats file tells how far an update is, and how it ended.
func TestStats(t *testing.T) {
	cancel := func(stop context.CancelFunc) func(string) fault {
		return func(path string) fault {
			if strings.HasPrefix(path, "rdiffs/") {
				stop()
			}
			return nil
		}
	}
	missing := func(context.CancelFunc) func(string) fault {
		return func(path string) fault {
			if strings.HasSuffix(path, ".json") {
				return nil
			}
			return status(http.StatusNotFound)
		}
	}
	for _, c := range []struct {
		name   string
		have   []string
		bad    func(context.CancelFunc) func(path string) fault
		during []string // phases while bytes are made
		end    string   // the file in the end, less the image
	}{
		{"a delta", []string{big1}, nil, []string{"rdiff_fetch"}, "phase finished\nprogress 100\n"},
		{"the full image", nil, nil, []string{"image_download"}, "phase finished\nprogress 100\n"},
		{"up to date", []string{big2}, nil, nil, "phase uptodate\nprogress 100\n"},
		{"fails", []string{big1}, missing, nil, "phase error\nprogress 0\n"},
		{"interrupted", []string{big1}, cancel, nil, "phase interrupted\nprogress 0\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			var bad func(string) fault
			if c.bad != nil {
				bad = c.bad(stop)
			}
			p := newPlace(t, c.have...)
			o := p.options(newSite(t, "big", bad).URL, big2)
			o.StatsFile = filepath.Join(p.dir, "image_update.stats")
			var phases []string
			o.Progress = func(int64, int64) {
				data := must(os.ReadFile(o.StatsFile))
				image, rest, _ := strings.Cut(string(data), "\n")
				phase, _, _ := strings.Cut(strings.TrimPrefix(rest, "phase "), "\n")
				if image != "image "+big2 {
					t.Errorf("it tells of %q", image)
				}
				phases = append(phases, phase)
			}
			_, err := client.Update(ctx, o)
			if got := slices.Compact(phases); !slices.Equal(got, c.during) {
				t.Errorf("phases %q, want %q", got, c.during)
			}
			if got := string(must(os.ReadFile(o.StatsFile))); got != "image "+big2+"\n"+c.end {
				t.Errorf("in the end %q, want %q; %v", got, c.end, err)
			}
		})
	}
}
