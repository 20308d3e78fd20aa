package archiving

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"puavo-image-repository/bench/internal/measure"
	"puavo-image-repository/meta"
)

// store is a program that stores images in a directory.
type store struct {
	name    string
	tool    string   // which must be installed; "" is ours
	version []string // the command that prints the version of the tool
	env     []string
	begin   []func(dir string) []string // what makes a store
	add     func(dir, image string) []string
	// restore returns the command, and the file in the directory out that it writes.
	restore func(dir, image, out string) (command []string, file string)
}

// stores returns all stores.
func stores(o Options) []store {
	return append(ours(o), restic(o), chunked("desync"), chunked("casync"))
}

// ours returns our archive, in both formats.
func ours(o Options) (all []store) {
	for _, format := range []string{"rdiff", "compact"} {
		all = append(all, store{
			name: "ours, " + format,
			add: func(dir, image string) []string {
				return []string{o.Archiver, "archive", "add", "-q", "--format", format, filepath.Dir(image), dir}
			},
			restore: func(dir, image, out string) ([]string, string) {
				name, _ := meta.ParseName(filepath.Base(image)) // add has refused all others
				file := filepath.Join(out, "image")
				return []string{o.Archiver, "archive", "restore", "-q", "--no-sync", "--out", file, dir, name.Series(), name.Version}, file
			},
		})
	}
	return all
}

func restic(o Options) store {
	command := func(dir string, args ...string) []string {
		return append([]string{"restic", "--quiet", "--no-cache", "--repo", filepath.Join(dir, "repo")}, args...)
	}
	return store{
		name: "restic", tool: "restic", version: []string{"restic", "version"},
		env:   []string{"RESTIC_PASSWORD=bench", "HOME=" + o.Tmp},
		begin: []func(string) []string{func(dir string) []string { return command(dir, "init") }},
		add:   func(dir, image string) []string { return command(dir, "backup", image) },
		restore: func(dir, image, out string) ([]string, string) {
			return command(dir, "restore", "latest", "--path", image, "--target", out), filepath.Join(out, image)
		},
	}
}

// chunked returns the store of desync, or of casync, which made its format.
func chunked(tool string) store {
	chunks := func(dir string) string { return filepath.Join(dir, "chunks.castr") }
	index := func(dir, image string) string { return filepath.Join(dir, filepath.Base(image)+".caibx") }
	return store{
		name: tool, tool: tool, version: []string{tool, "--version"},
		begin: []func(string) []string{func(dir string) []string { return []string{"mkdir", chunks(dir)} }},
		add: func(dir, image string) []string {
			return []string{tool, "make", "--store", chunks(dir), index(dir, image), image}
		},
		restore: func(dir, image, out string) ([]string, string) {
			file := filepath.Join(out, "image")
			return []string{tool, "extract", "--store", chunks(dir), index(dir, image), file}, file
		},
	}
}

// measure runs a command of the store.
func (s store) measure(ctx context.Context, command []string) (measure.Figures, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "PUAVO_UPDATE_REPOSITORY_SETTINGS="}, s.env...)
	f, err := measure.Command(cmd)
	return f, errors.Join(ctx.Err(), err)
}

// installed reports whether a program is.
func installed(tool string) bool {
	_, err := exec.LookPath(tool)
	return err == nil
}

// linked reports whether a file has several names.
func linked(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Nlink > 1
}
