package pictures

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The reports of this checkout show their pictures, and these are of their figures.
// If this fails, run go -C bench run . draw.
func TestDrawn(t *testing.T) {
	const bench = "../.."
	dir := t.TempDir()
	for _, r := range reports {
		text, err := os.ReadFile(filepath.Join(bench, r.file))
		if os.IsNotExist(err) {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, r.file), text, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	written, err := Draw(dir)
	if err != nil || len(written) == 0 {
		t.Fatalf("%q, %v", written, err)
	}
	var names []string
	for _, path := range written {
		rel, _ := filepath.Rel(dir, path)
		got, err := os.ReadFile(path)
		want, wantErr := os.ReadFile(filepath.Join(bench, rel))
		if err != nil || wantErr != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what draw makes; %v, %v", rel, err, wantErr)
		}
		names = append(names, filepath.Base(path))
	}
	entries, err := os.ReadDir(filepath.Join(bench, folder))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains(names, e.Name()) {
			t.Errorf("%s is of no report", e.Name())
		}
	}
	checkLinks(t, filepath.Join(bench, "..", "README.md"))
}

// checkLinks checks that the pictures that a document shows are there.
func checkLinks(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?:src|srcset)="([^"]+\.svg)"`).FindAllSubmatch(text, -1) {
		if _, err := os.Stat(filepath.Join(filepath.Dir(path), string(m[1]))); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// Examples of reports.
const (
	pairsReport = `# Results

## large change: a release

 |       peer | time s | ratio | delta MB | ratio |
 |        --- |   ---: |  ---: |     ---: |  ---: |
 | rdiff -b 1 |  46.94 | 1.000 |   558.78 | 1.000 |
 | ours, fast |   1.62 | 0.036 |   506.73 | 0.907 |
 |     bsdiff | failed: no memory | | | |

## small, a

 | peer | time s | delta MB |
 |  --- |   ---: |     ---: |
 | ours |      1 |        2 |

More.
`
	growthReport = `# Results

## generated, 1 GB

 |          peer | time s | memory MB |
 |           --- |   ---: |      ---: |
 | ours, default |   1.50 |      80.5 |

## generated, 16 GB

 |          peer | time s | memory MB |
 |           --- |   ---: |      ---: |
 | ours, default |  31.25 |    1093.1 |
`
	repositoryReport = `## real

 |     builder | time s | CPU s | memory MB | delta MB |
 |         --- |   ---: |  ---: |      ---: |     ---: |
 | predecessor | 133.74 |   260 |    1473.8 |  2213.90 |
 |        ours |  29.53 |    51 |     160.1 |  1982.76 |

 | ours | time s |
 | ---  |   ---: |
 | all  |      1 |
`
	clientReport = `## small change: a

 |    client | time s | written MB |
 |       --- |   ---: |       ---: |
 | installed |   4.19 |     1471.6 |
 |      ours |   2.79 |     1467.0 |
`
	farmReport = `## Two workers

 | what | workers | measured s |
 | ---  |    ---: |       ---: |
 | rdiff |      1 |         20 |

## rdiff, 5 series

 | workers | faster at 1 Gbit/s | limit at 1 Gbit/s | faster at 25 Gbit/s |
 |     --- |               ---: |              ---: |                ---: |
 |       0 |               1.00 |               end |                1.00 |
 |       1 |               1.20 |         link 97 % |                1.90 |
 |     256 |               1.25 |         link 97 % |               12.50 |

## rdiff, 50 series

 | workers | faster at 25 Gbit/s |
 |     --- |                ---: |
 |       1 |                1.95 |
 |     256 |               13.50 |

## compact, 5 series

 | workers | faster at 25 Gbit/s |
 |     --- |                ---: |
 |       1 |                2.00 |
`
	readsReport = `## real

 | limit MiB | passes |
 |       --- |   ---: |
 |       700 | failed |
 |       900 |  10.70 |
 |      1536 |   4.10 |
`
)

func TestDraw(t *testing.T) {
	for _, c := range []struct {
		file, text string
		pictures   []string
		says, not  []string // texts of the first
	}{
		{"RESULTS.md", pairsReport, []string{"results-large-change", "results-small"}, []string{">rdiff -b 1<", ">46.9<", ">507<", ">–<", ">time, seconds<"}, []string{">CPU"}},
		{"RAW.md", pairsReport, []string{"raw-large-change", "raw-small"}, nil, nil},
		{"GROWTH.md", growthReport, []string{"growth"}, []string{">1.5<", ">31.2<", ">1093<", ">16<"}, nil},
		{"REPOSITORY.md", repositoryReport, []string{"repository-real"}, []string{">134<", ">260<", ">1983<", ">predecessor<"}, nil},
		{"CLIENT.md", clientReport, []string{"client-small-change"}, []string{">installed<", ">1472<"}, []string{">CPU"}},
		{"READS.md", readsReport, []string{"reads-real"}, []string{">10.7<", ">900 MiB<", ">1.5 GiB<", ">each image is read once<"}, []string{">700 MiB<"}},
		{"FARM.md", farmReport, []string{"farm-rdiff", "farm-compact"}, []string{">workers, 5 series<", ">workers, 50 series<", ">25 Gbit/s: 12.5<", ">1 Gbit/s: 1.25<", ">13.5<", ">256<"}, nil},
		{"READS.md", "# No table\n", nil, nil, nil},
		{"RAW.md", clientReport + strings.ReplaceAll(pairsReport, "## small, a", "## large change, again"), []string{"raw-large-change", "raw-large-change-2"}, nil, nil},
		{"OTHER.md", pairsReport, nil, nil, nil},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, c.file)
		if err := os.WriteFile(path, []byte(c.text), 0o666); err != nil {
			t.Fatal(err)
		}
		written, err := Draw(dir)
		var want []string
		for _, name := range c.pictures {
			want = append(want, filepath.Join(dir, folder, name+"-light.svg"), filepath.Join(dir, folder, name+"-dark.svg"))
		}
		if len(want) > 0 {
			want = append(want, path)
		}
		if err != nil || !slices.Equal(written, want) {
			t.Errorf("%s: wrote %q, want %q, %v", c.file, written, want, err)
			continue
		}
		if len(want) == 0 {
			continue
		}
		svg, _ := os.ReadFile(want[0])
		for _, text := range c.says {
			if !strings.Contains(string(svg), text) {
				t.Errorf("%s: no %s in\n%s", c.file, text, svg)
			}
		}
		for _, text := range c.not {
			if strings.Contains(string(svg), text) {
				t.Errorf("%s: %s", c.file, text)
			}
		}
		checkShown(t, path, c.text, c.pictures)
	}
}

// checkShown checks that a report shows each picture once, after a table, that the rest
// of it is as it was, and that it stays so.
func checkShown(t *testing.T, path, before string, names []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rest := string(text)
	for _, name := range names {
		at := strings.Index(rest, `src="pictures/`+name+`-light.svg"`)
		shown := regexp.MustCompile(`\n<picture>\n.*` + name + `-dark\.svg">\n.*` + name + `-light\.svg">\n</picture>\n`).FindString(rest)
		if at < 0 || shown == "" || strings.LastIndex(rest[:strings.Index(rest, shown)], "|\n") != strings.Index(rest, shown)-2 {
			t.Errorf("%s does not show %s after a table:\n%s", path, name, text)
		}
		if _, after, _ := strings.Cut(rest, shown); strings.HasPrefix(after, " |") {
			t.Errorf("%s shows %s in a table:\n%s", path, name, text)
		}
		rest = strings.Replace(rest, shown, "", 1)
	}
	if rest != before {
		t.Errorf("the rest of %s has changed:\n%s", path, rest)
	}
	if again, err := Draw(filepath.Dir(path)); err != nil || slices.Contains(again, path) {
		t.Errorf("drawn again: %q, %v", again, err)
	}
}

func TestDrawErrors(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, folder), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Draw(dir); err == nil {
		t.Error("a file where the folder of pictures should be, and no error")
	}
	dir = t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "RAW.md"), 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Draw(dir); err == nil {
		t.Error("a directory where a report should be, and no error")
	}
}
