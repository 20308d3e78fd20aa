package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/testdata"
)

// Whatever the option, a file or directory that is given and is missing fails with one
// exit code, and a message that says why; what the update can do without is reported.
func TestMissingFiles(t *testing.T) {
	t.Parallel()
	reason := regexp.MustCompile(`no such file or directory|is a directory`)
	dir, mirror := t.TempDir(), buildMirror(t)
	const base, delta = "puavo-os-amxa-buster-2021-04-13-193910-amd64.img", "puavo-os-amxa-buster-2021-04-13-193910--2022-01-20-173248-amd64.rdiff"
	images := filepath.Join(dir, "images")
	if err := os.Mkdir(images, 0o777); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(images, base), string(testdata.Read(t, "images/"+base)))
	place := strings.NewReplacer(
		"IMAGES", images, "MIRROR", mirror, "BASE", filepath.Join(images, base), "DELTA", filepath.Join(mirror, "rdiffs", delta),
		"NONE", filepath.Join(dir, "none"), "OUT", filepath.Join(dir, "out.img"),
	)
	for _, c := range []struct {
		args, config string
		code         int
	}{
		{"--mirror NONE --images-dir IMAGES", "", command.Failed},
		{"--mirror file://NONE --images-dir IMAGES", "", command.Failed},
		{"--mirror MIRROR --images-dir NONE", "", command.Failed},
		{"--mirror MIRROR --images-dir IMAGES --trust NONE", "", command.Failed},
		{"--mirror https://localhost:1 --images-dir IMAGES --ca-certificate NONE", "", command.Failed},
		{"check --mirror NONE --images-dir IMAGES", "", command.Failed},
		{"plan --mirror NONE --images-dir IMAGES", "", command.Failed},
		{"list --mirror NONE --images-dir IMAGES", "", command.Failed},
		{"verify --mirror MIRROR --images-dir NONE", "", command.Failed},
		{"check --mirror MIRROR --images-dir IMAGES", "NONE", command.Failed},
		{"check --mirror MIRROR --images-dir IMAGES", "IMAGES", command.Failed}, // a directory
		{"apply --unverified --base NONE --delta DELTA --out OUT", "", command.Failed},
		{"apply --unverified --base BASE --delta NONE --out OUT", "", command.Failed},
		{"apply --unverified --base BASE --delta DELTA --out NONE/new.img", "", command.Failed},
		{"-v --mirror MIRROR --images-dir IMAGES --payload-mirror NONE --stats-file NONE/stats", "", command.Done},
	} {
		cmd := exec.CommandContext(t.Context(), "puavo-update-image", strings.Fields(place.Replace(c.args))...)
		cmd.Env = append(os.Environ(), configVariable+"="+place.Replace(c.config))
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != c.code || !reason.Match(out) {
			t.Errorf("%s: exit code %d, want %d, and the reason in\n%s", c.args, code, c.code, out)
		}
	}
}
