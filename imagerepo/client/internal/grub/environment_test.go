package grub

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/powercut"
	"puavo-image-repository/testdata"
)

// chosen is what the environment block of a user who has chosen an image holds.
var chosen = []string{"puavo_grub_puavo_os_default_image=" + imageA + ".img", "puavo_grub_puavo_os_default_mode=netboot", "saved_entry=1", "other=a b"}

// place makes an images directory whose environment block has these variables.
func place(t *testing.T, variables ...string) (images, block string) {
	t.Helper()
	testdata.Tool(t, editor)
	images = t.TempDir()
	block = filepath.Join(images, environmentFile)
	if err := os.MkdirAll(filepath.Dir(block), 0o777); err != nil {
		t.Fatal(err)
	}
	testdata.Run(t, editor, block, "create")
	testdata.Run(t, editor, append([]string{block, "set"}, variables...)...)
	return images, block
}

// variables returns what an environment block holds, for people.
func variables(t *testing.T, block string) string {
	t.Helper()
	return string(testdata.Run(t, editor, block, "list"))
}

// forget is ForgetChoice with what it logs.
func forget(ctx context.Context, images string) (log string, err error) {
	var b bytes.Buffer
	err = ForgetChoice(ctx, images, slog.New(slog.NewTextHandler(&b, nil)))
	return b.String(), err
}

// What the user has chosen is removed, and all else stays.
func TestForgetChoice(t *testing.T) {
	for _, c := range []struct {
		name string
		have []string
		want string
	}{
		{"both", chosen, "saved_entry=1\nother=a b\n"},
		{"one", []string{"other=1", chosen[1]}, "other=1\n"},
		{"nothing chosen", []string{"other=1"}, "other=1\n"},
		{"nothing at all", []string{"a="}, "a=\n"},
	} {
		images, block := place(t, c.have...)
		os.Chmod(block, 0o640)
		for range 2 {
			if log, err := forget(t.Context(), images); err != nil || log != "" {
				t.Errorf("%s: %v, logged %q", c.name, err, log)
			}
			if got := variables(t, block); got != c.want {
				t.Errorf("%s: left are %q, want %q", c.name, got, c.want)
			}
		}
		info, err := os.Stat(block)
		if err != nil || info.Mode() != 0o640 || info.Size() != 1024 || list(t, filepath.Dir(block)) != "grubenv" {
			t.Errorf("%s: %v, %v, left are %s", c.name, info, err, list(t, filepath.Dir(block)))
		}
	}
}

// A block that has nothing to forget is not written, nor is one that a link leads to
// replaced by a file.
func TestUnchanged(t *testing.T) {
	images, block := place(t, "other=1")
	disk := powercut.Watch(t, images, nil)
	if _, err := forget(t.Context(), images); err != nil {
		t.Error(err)
	}
	for _, c := range disk.Changes {
		if c.Kind == atomicfile.Rename {
			t.Errorf("%s", c)
		}
	}
	_, target := place(t, chosen...)
	os.Remove(block)
	if err := os.Symlink(target, block); err != nil {
		t.Fatal(err)
	}
	if _, err := forget(t.Context(), images); err != nil {
		t.Error(err)
	}
	if got := variables(t, target); strings.Contains(got, "puavo") {
		t.Errorf("left are %q", got)
	}
	if link, err := os.Readlink(block); link != target {
		t.Errorf("the link leads to %q, %v", link, err)
	}
}

// Without a block there is a warning, and nothing is made.
func TestNoBlock(t *testing.T) {
	images := t.TempDir()
	log, err := forget(t.Context(), images)
	if err != nil || !strings.Contains(log, "level=WARN") || !strings.Contains(log, filepath.Join(images, environmentFile)) {
		t.Errorf("%v, logged %q", err, log)
	}
	if got := list(t, images); got != "" {
		t.Errorf("left are %s", got)
	}
}

// What is no environment block, or far too large, is neither waited at nor read.
func TestOddBlock(t *testing.T) {
	for _, kind := range append(testdata.OddFiles(t), testdata.Odd{Name: "2 GiB", Make: testdata.Sparse}) {
		images, block := place(t, chosen...)
		t.Chdir(filepath.Dir(block)) // the path of a socket is short
		if err := errors.Join(os.Remove(block), kind.Make(filepath.Base(block))); err != nil {
			t.Fatal(err)
		}
		testdata.Promptly(t, kind.Name, func() {
			used := testdata.Allocated(func() {
				// Of a link to nothing there is a warning.
				if log, err := forget(t.Context(), images); err == nil && log == "" || err != nil && !strings.Contains(err.Error(), block) {
					t.Errorf("%s: %v", kind.Name, err)
				}
			})
			if used > 1<<20 {
				t.Errorf("%s: it takes %d bytes of memory", kind.Name, used)
			}
		})
	}
}

// After an error the block is as it was, and the error tells what to do.
func TestForgetFails(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(block string) context.Context
		want    string
	}{
		{"damaged", func(block string) context.Context {
			os.WriteFile(block, []byte("# GRUB Env"), 0o666)
			return t.Context()
		}, "invalid environment block"},
		{"too large", func(block string) context.Context {
			os.WriteFile(block, make([]byte, maxEnvironment+1), 0o666)
			return t.Context()
		}, "more than"},
		{"cancelled", func(string) context.Context {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			return ctx
		}, context.Canceled.Error()},
		{"not installed", func(string) context.Context {
			t.Setenv("PATH", t.TempDir())
			return t.Context()
		}, "install the package grub-common"},
	} {
		images, block := place(t, chosen...)
		ctx := c.prepare(block)
		before, _ := os.ReadFile(block)
		_, err := forget(ctx, images)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), block) || strings.Contains(err.Error(), "damaged") != (c.name == "damaged") {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if after, err := os.ReadFile(block); !bytes.Equal(after, before) || list(t, filepath.Dir(block)) != "grubenv" {
			t.Errorf("%s: %v, left are %s", c.name, err, list(t, filepath.Dir(block)))
		}
	}
}

// Whenever the power is cut, the block is whole, and what was done lasts.
func TestForgetPowerCut(t *testing.T) {
	images, block := place(t, chosen...)
	before, err := os.ReadFile(block)
	if err != nil {
		t.Fatal(err)
	}
	_, other := place(t, chosen[2:]...)
	after, err := os.ReadFile(other)
	if err != nil {
		t.Fatal(err)
	}
	disk := powercut.Watch(t, images, func(next atomicfile.Change, trees func() []powercut.Tree) error {
		for _, tree := range trees() {
			if c := tree[environmentFile]; c == nil || !bytes.Equal(c.Data, before) && !bytes.Equal(c.Data, after) {
				t.Errorf("before %s the block is damaged", next)
			}
		}
		return nil
	})
	if _, err := forget(t.Context(), images); err != nil {
		t.Error(err)
	}
	disk.Stop()
	for _, tree := range disk.Trees() {
		if len(tree) != 1 || !bytes.Equal(tree[environmentFile].Data, after) {
			t.Errorf("it does not last: left are %v", tree)
		}
	}
}
