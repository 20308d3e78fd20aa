package main

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/testdata"
)

// Whatever the option or argument, a file or directory that is given and is missing
// fails with one exit code, and a message that says why.
func TestMissingFiles(t *testing.T) {
	t.Parallel()
	reason := regexp.MustCompile(`no such file or directory|is a directory|not a directory`)
	dir := t.TempDir()
	testdata.Before(t, "mirror", dir)
	testdata.Before(t, "keys", dir)
	damaged := filepath.Join(dir, "damaged")
	place := strings.NewReplacer(
		"IMAGES", filepath.Join(dir, "puavo-os-images"), "MIRROR", filepath.Join(dir, "mirror"), "DAMAGED", damaged,
		"KEYS", filepath.Join(dir, "keys"), "PASSPHRASE", testdata.Path("before/passphrase"), "NONE", filepath.Join(dir, "none"),
	)
	testdata.Run(t, "cp", "-r", filepath.Join(dir, "mirror"), damaged)
	testdata.Run(t, "truncate", "-s", "1", filepath.Join(damaged, "puavo-os-long-buster-2022-03-02-000000-amd64.img"))
	for _, args := range []string{
		"NONE MIRROR",
		"--dry-run NONE MIRROR",
		"--config NONE IMAGES MIRROR",
		"--config IMAGES IMAGES MIRROR", // a directory
		"--config NONE --dry-run IMAGES MIRROR",
		"--puavo-os NONE IMAGES MIRROR",
		"--puavo-os PASSPHRASE IMAGES MIRROR", // a file
		"--metrics-file NONE/m.prom --sign-keys KEYS --passphrase-file PASSPHRASE IMAGES MIRROR",
		"--sign-keys NONE IMAGES MIRROR",
		"--sign-keys KEYS --passphrase-file NONE IMAGES MIRROR",
		"status NONE",
		"verify NONE",
		"verify --repair --sign-keys NONE MIRROR",
		"verify --repair --sign-keys KEYS --passphrase-file NONE MIRROR",
		"verify --repair --images NONE DAMAGED",
		"keys init --passphrase-file PASSPHRASE NONE/keys",
		"keys init --passphrase-file NONE NONE",
		"keys list NONE",
		"keys rotate --passphrase-file PASSPHRASE root NONE",
		"keys rotate --passphrase-file NONE root KEYS",
		"keys add --passphrase-file PASSPHRASE root NONE",
		"keys add --passphrase-file NONE root KEYS",
		"keys sign --passphrase-file PASSPHRASE NONE",
		"keys renew --passphrase-file PASSPHRASE NONE MIRROR",
		"keys renew --passphrase-file NONE KEYS MIRROR",
		"keys renew --passphrase-file PASSPHRASE KEYS NONE",
		"keys renew --passphrase-file PASSPHRASE --metrics-file NONE/m.prom KEYS MIRROR",
	} {
		cmd := exec.CommandContext(t.Context(), name, strings.Fields(place.Replace(args))...)
		cmd.Dir = dir
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != command.Failed || !reason.Match(out) {
			t.Errorf("%s: exit code %d, want %d, and the reason in\n%s", args, code, command.Failed, out)
		}
	}
}
