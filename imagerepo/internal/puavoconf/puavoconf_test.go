package puavoconf

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"puavo-image-repository/testdata"
)

const late = "-buster-2022-02-04-140532-amd64.img"

// load returns an image of testdata.
func load(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(testdata.Path(name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func read(image []byte) (map[string]json.RawMessage, error) {
	return Read(context.Background(), bytes.NewReader(image), int64(len(image)))
}

// tool returns the path of a program that is needed for a test.
func tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path
	case os.Getenv("CI") != "":
		t.Fatalf("%s, of squashfs-tools, is not installed", name)
	default:
		t.Skipf("%s, of squashfs-tools, is not installed", name)
	}
	return ""
}

// run runs a program.
func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

// definitions returns what unsquashfs and encoding/json make of an image.
func definitions(t testing.TB, image string) map[string]any {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	run(t, tool(t, "unsquashfs"), "-no-progress", "-d", root, image)
	files, err := filepath.Glob(filepath.Join(root, dir, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("unsquashfs has unpacked %q, %v", files, err)
	}
	all := make(map[string]any)
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &all); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// TestPeer compares with unsquashfs: images, and all compressions.
func TestPeer(t *testing.T) {
	var images []string
	for _, pattern := range []string{"images/*.img", "compression/*.img"} {
		found, err := filepath.Glob(testdata.Path(pattern))
		if err != nil || len(found) < 4 {
			t.Fatalf("%s: %q, %v", pattern, found, err)
		}
		images = append(images, found...)
	}
	for _, image := range images {
		t.Run(filepath.Base(image), func(t *testing.T) {
			b, err := os.ReadFile(image)
			if err != nil {
				t.Fatal(err)
			}
			got, err := read(b)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, got, definitions(t, image))
		})
	}
}

// equal compares the definitions by their values.
func equal(t *testing.T, got map[string]json.RawMessage, want map[string]any) {
	t.Helper()
	if g, w := slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)); !slices.Equal(g, w) {
		t.Fatalf("got the keys %q, want %q", g, w)
	}
	for key, raw := range got {
		var value any
		if err := json.Unmarshal(raw, &value); err != nil {
			t.Fatal(err)
		}
		g, w := fmt.Sprintf("%#v", value), fmt.Sprintf("%#v", want[key])
		if g != w {
			t.Errorf("%s: got %s, want %s", key, g, w)
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, raw); err != nil || compact.String() != string(raw) {
			t.Errorf("%s: not compact: %s", key, raw)
		}
	}
}

func TestCompressions(t *testing.T) {
	for _, method := range []string{"gzip", "lzo", "xz", "lz4", "zstd"} {
		t.Run(method, func(t *testing.T) {
			got, err := read(load(t, "compression/puavo-os-"+method+late))
			if err != nil {
				t.Fatal(err)
			}
			const want = `{"default":1,"description":"Size of all things, 1 ≤ n ≤ 3","typehint":"number"}`
			if g := string(got["puavo.display.scale"]); len(got) != 5 || g != want {
				t.Errorf("got %d keys and %s, want 5 and %s", len(got), g, want)
			}
		})
	}
}

func TestFaults(t *testing.T) {
	const a, b = "/usr/share/puavo-conf/definitions/a.json", "/usr/share/puavo-conf/definitions/b.json"
	for _, row := range []struct {
		image string
		none  bool
		want  []string // parts of the error
	}{
		{"twice", false, []string{a, b, `"puavo.`}},
		{"nojson", false, []string{b, "at byte "}},
		{"array", false, []string{b, "not an object"}},
		{"nodefs", true, []string{"no /usr/share/puavo-conf/definitions"}},
		{"empty", true, []string{"not a squashfs", "0 bytes"}},
		{"text", true, []string{"not a squashfs", "21 bytes"}},
		{"cut", false, []string{"cut off", "6000 of"}},
	} {
		t.Run(row.image, func(t *testing.T) {
			got, err := read(load(t, "badimages/puavo-os-"+row.image+late))
			fails(t, got, err, row.none, row.want...)
		})
	}
}

// fails checks the error of a [Read].
func fails(t *testing.T, got map[string]json.RawMessage, err error, none bool, parts ...string) {
	t.Helper()
	if err == nil || got != nil || errors.Is(err, ErrNone) != none {
		t.Fatalf("got %v and the error %v, want no map, and ErrNone: %t", got, err, none)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error %q lacks %q", err, part)
		}
	}
}

func TestMerge(t *testing.T) {
	for _, row := range []struct {
		name string
		data []string // of 0.json, 1.json
		want string   // the map as JSON, or a part of the error
	}{
		{"nothing", []string{`{}`}, `{}`},
		{"compact", []string{` { "b" : [ 1 , "<&>" ] } `, "{\"a\":\n{ \"x\\u00e4\" : 1e2 } }\n"}, `{"a":{"x\u00e4":1e2},"b":[1,"<&>"]}`},
		{"any value", []string{`{"a":null,"b":true}`, `{"":-0}`}, `{"":-0,"a":null,"b":true}`},
		{"two files", []string{`{"a":1}`, `{"b":1,"a":1}`}, `1.json in the image: "a" is already defined in /usr/share/puavo-conf/definitions/0.json`},
		{"one file", []string{`{"a":1,"a":1}`}, `"a" is already defined in /usr/share/puavo-conf/definitions/0.json`},
		{"escaped", []string{`{"a":1,"\u0061":1}`}, `"a" is already defined`},
		{"empty file", []string{``}, `0.json in the image: bad JSON at byte 0: unexpected end`},
		{"null", []string{`null`}, `0.json in the image: the JSON is not an object`},
		{"array", []string{`[{}]`}, `not an object`},
		{"string", []string{`"{}"`}, `not an object`},
		{"cut in key", []string{`{"a`}, `bad JSON at byte 3: unexpected end`},
		{"cut in value", []string{`{"a":{`}, `bad JSON at byte 6: unexpected end`},
		{"cut after value", []string{`{"a":1`}, `bad JSON at byte 6: unexpected end`},
		{"comma", []string{`{"a":1,}`}, `bad JSON at byte 8: invalid character '}'`},
		{"no comma", []string{`{"a":1 "b":1}`}, `bad JSON at byte 8: invalid character '"'`},
		{"no colon", []string{`{"a" 1}`}, `bad JSON at byte 6: invalid character '1'`},
		{"bad key", []string{`{1:1}`}, `bad JSON at byte 2: invalid character '1'`},
		{"bad value", []string{`{"a":1,"b":[nil]}`}, `bad JSON at byte 14: invalid character 'i'`},
		{"second object", []string{`{} {}`}, `bad JSON at byte 4: invalid character '{' after`},
		{"rubbish", []string{`{}}`}, `bad JSON at byte 3: invalid character '}' after`},
		{"deep", []string{`{"a":` + strings.Repeat("[", 1<<20)}, `exceeded max depth`},
	} {
		t.Run(row.name, func(t *testing.T) {
			var files []file
			for i, data := range row.data {
				files = append(files, file{fmt.Sprintf("%d.json", i), []byte(data)})
			}
			all, err := merge(files)
			if err != nil {
				if !strings.Contains(err.Error(), row.want) {
					t.Errorf("got the error %q, want %q", err, row.want)
				}
				return
			}
			got := new(bytes.Buffer)
			e := json.NewEncoder(got)
			e.SetEscapeHTML(false)
			if err := e.Encode(all); err != nil || got.String() != row.want+"\n" {
				t.Errorf("got %s %v, want %s", got, err, row.want)
			}
		})
	}
}

// TestReaderError has an image fail at each of its reads.
func TestReaderError(t *testing.T) {
	image := load(t, "compression/puavo-os-lzo"+late)
	errDisk := errors.New("disk on fire")
	for at := 0; ; at++ {
		failed := false
		r := &testdata.Failing{ReaderAt: bytes.NewReader(image), At: at, Hook: func() { failed = true }, Err: errDisk}
		got, err := Read(context.Background(), r, int64(len(image)))
		if !failed && at > 5 && err == nil {
			return
		}
		fails(t, got, err, false, "disk on fire")
		if !errors.Is(err, errDisk) {
			t.Fatalf("at %d: got the error %v, want %v", at, err, errDisk)
		}
	}
}

// TestCancelled ends the context before and during each read.
func TestCancelled(t *testing.T) {
	image := load(t, "compression/puavo-os-lzo"+late)
	for at := 0; ; at++ {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		if at == 0 {
			cancel()
		}
		r := &testdata.Failing{ReaderAt: bytes.NewReader(image), At: at - 1, Hook: cancel}
		got, err := Read(ctx, r, int64(len(image)))
		if at > 5 && ctx.Err() == nil && err == nil {
			return
		}
		if got != nil || err != context.Canceled {
			t.Fatalf("at %d: got %v, %v", at, got, err)
		}
	}
}

// TestShrunk has an image that ends before its size.
func TestShrunk(t *testing.T) {
	image := load(t, "compression/puavo-os-lzo"+late)
	got, err := Read(context.Background(), bytes.NewReader(image[:6000]), int64(len(image)))
	fails(t, got, err, false, "reading the image at offset")
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got the error %v", err)
	}
}

// TestCut cuts an image everywhere, in the short tests at every fifth byte.
func TestCut(t *testing.T) {
	image := load(t, "compression/puavo-os-lzo"+late)
	const used = 12842 // as file(1) says; the rest is padding
	for n := 0; n < used; n += testdata.Scale(1, 5) {
		got, err := read(image[:n])
		fails(t, got, err, n < 96) // less than a superblock may be anything
	}
	if got, err := read(image[:used]); err != nil || len(got) != 5 {
		t.Errorf("without the padding: got %d keys, %v", len(got), err)
	}
}

func TestConcurrent(t *testing.T) {
	var wg sync.WaitGroup
	for range 4 {
		for _, method := range []string{"gzip", "lzo", "xz", "lz4", "zstd"} {
			image := load(t, "compression/puavo-os-"+method+late)
			wg.Go(func() {
				if got, err := read(image); err != nil || len(got) != 5 {
					t.Errorf("%s: got %d keys, %v", method, len(got), err)
				}
			})
		}
	}
	wg.Wait()
}

// FuzzRead changes images. What is read must be JSON, whatever it is. As images
// are large, give -fuzzminimizetime 10x, or minimizing them takes all the time.
func FuzzRead(f *testing.F) {
	for _, pattern := range []string{"compression/*.img", "badimages/*.img"} {
		images, err := filepath.Glob(testdata.Path(pattern))
		if err != nil || len(images) == 0 {
			f.Fatalf("%s: %q, %v", pattern, images, err)
		}
		for _, image := range images {
			b, err := os.ReadFile(image)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, image []byte) {
		all, err := read(image)
		if (err == nil) != (all != nil) {
			t.Fatalf("got both or neither of %v, %v", all, err)
		}
		for key, value := range all {
			if !json.Valid(value) {
				t.Errorf("%q: %q", key, value)
			}
		}
	})
}
