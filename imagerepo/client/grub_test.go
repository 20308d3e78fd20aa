package client_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/testdata"
)

// label returns the name of a label of an image.
func label(image, kind string) string { return strings.TrimSuffix(image, "img") + kind }

// wantLabels checks which labels the directory has.
func (p *place) wantLabels(labels ...string) {
	p.t.Helper()
	got := slices.DeleteFunc(slices.Collect(maps.Keys(p.files())), func(f string) bool {
		return !strings.HasSuffix(f, ".default") && !strings.HasSuffix(f, ".backup")
	})
	slices.Sort(got)
	if slices.Sort(labels); !slices.Equal(got, labels) {
		p.t.Errorf("labels are %q, want %q", got, labels)
	}
}

// newGrub makes an images directory of a machine whose user has chosen an image in the
// menu of GRUB, with options to update it.
func newGrub(t *testing.T, images ...string) (p *place, o client.Options, block string) {
	t.Helper()
	testdata.Tool(t, "grub-editenv")
	p = newPlace(t, images...)
	block = filepath.Join(p.dir, "boot/grub/grubenv")
	if err := os.MkdirAll(filepath.Dir(block), 0o777); err != nil {
		t.Fatal(err)
	}
	testdata.Run(t, "grub-editenv", block, "create")
	choose(t, block)
	o = p.options(access["directory"](t, "all"), "")
	o.DefaultLink, o.GrubLabels = defaultLink, true
	return p, o, block
}

// inUse makes the default link lead to an image.
func (p *place) inUse(image string) {
	p.t.Helper()
	if err := os.Link(filepath.Join(p.dir, image), filepath.Join(p.dir, defaultLink)); err != nil {
		p.t.Fatal(err)
	}
}

const choice = "puavo_grub_puavo_os_default_image=" + image1 + "\n"

// choose is what the menu does when a user chooses an image.
func choose(t *testing.T, block string) {
	t.Helper()
	testdata.Run(t, "grub-editenv", block, "set", strings.TrimSpace(choice))
}

// chosen returns what is in an environment block.
func chosen(t *testing.T, block string) string {
	t.Helper()
	return string(testdata.Run(t, "grub-editenv", block, "list"))
}

// The boot menu follows the default link.
func TestGrubLabels(t *testing.T) {
	p, o, block := newGrub(t, image2)
	o.PostInstall = `set -- "${1%.img}.default"; test -e "$1" && ! grub-editenv "${1%/*}/boot/grub/grubenv" list | grep -q . && :`
	for _, c := range []struct {
		image  string
		labels []string
	}{
		{image2, []string{label(image2, "default")}},
		{image3, []string{label(image3, "default"), label(image2, "backup")}},
		{"", []string{label(image4, "default"), label(image3, "backup")}},
		{image3, []string{label(image3, "default"), label(image4, "backup")}},
	} {
		choose(t, block)
		o.Image = c.image
		if result, err := client.Update(t.Context(), o); err != nil || result.UpToDate {
			t.Errorf("%q: %+v, %v", c.image, result, err)
		}
		p.wantLabels(c.labels...)
		if got := chosen(t, block); got != "" {
			t.Errorf("%q: chosen is %q", c.image, got)
		}
	}
	if p.log.Len() > 0 {
		t.Errorf("warnings: %s", &p.log)
	}
}

// Labels of an image in use are repaired, and what the user has chosen since it was put
// to use stays chosen.
func TestGrubLabelsRepaired(t *testing.T) {
	p, o, block := newGrub(t, image3)
	p.inUse(image3)
	if _, err := client.Update(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	choose(t, block)
	right := []string{label(image4, "default"), label(image3, "backup")}
	for _, spoil := range []func(){
		func() {},
		func() { os.Remove(filepath.Join(p.dir, right[0])) },
		func() { os.Remove(filepath.Join(p.dir, right[1])); p.write(label(image3, "default"), nil) },
	} {
		spoil()
		if result, err := client.Update(t.Context(), o); err != nil || !result.UpToDate {
			t.Errorf("%+v, %v", result, err)
		}
		p.wantLabels(right...)
		if got := chosen(t, block); got != choice {
			t.Errorf("chosen is %q", got)
		}
	}
}

// What fails for GRUB is done again by the next run, and the hook is run after it.
func TestGrubFails(t *testing.T) {
	p, o, block := newGrub(t, image3)
	p.inUse(image3)
	o.PostInstall = `touch "${PUAVO_IMAGE%/*}/installed" #`
	if err := os.WriteFile(block, []byte("damaged"), 0o666); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err := client.Update(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), image4+" is in use, but GRUB's environment block "+block) || !strings.HasSuffix(err.Error(), "the next run tries again") {
			t.Errorf("%v", err)
		}
		p.wantLabels(label(image4, "default"), label(image3, "backup"))
	}
	if _, done := p.files()["installed"]; done {
		t.Error("the hook was run")
	}
	os.Remove(block)
	testdata.Run(t, "grub-editenv", block, "create")
	if result, err := client.Update(t.Context(), o); err != nil || result.UpToDate {
		t.Errorf("then %+v, %v", result, err)
	}
	if _, done := p.files()["installed"]; !done {
		t.Error("then the hook was not run")
	}
}

// Labels that cannot be repaired are an error of an update that is up to date.
func TestGrubNotRepaired(t *testing.T) {
	p, o, _ := newGrub(t, image4)
	p.inUse(image4)
	stop := atomicfile.Observe(p.dir, func(c atomicfile.Change) error {
		if c.Name == label(image4, "default") {
			return syscall.ENOSPC
		}
		return nil
	})
	defer stop()
	if _, err := client.Update(t.Context(), o); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), image4+" is in use, but the labels") {
		t.Errorf("%v", err)
	}
}
