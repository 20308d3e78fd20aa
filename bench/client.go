package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"puavo-image-repository/bench/internal/build"
	"puavo-image-repository/bench/internal/files"
	"puavo-image-repository/bench/internal/measure"
	"puavo-image-repository/bench/internal/nginx"
	"puavo-image-repository/bench/internal/report"
)

// clientOptions are the flags of client.
type clientOptions struct {
	corpus, dir, tmp string
	rounds           int
	write            bool
}

func parseClient(args []string, stderr io.Writer) (o clientOptions, err error) {
	flags := flag.NewFlagSet("bench client", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.corpus, "corpus", "real", "real, small, or a directory of images")
	flags.StringVar(&o.dir, "dir", "/var/tmp/corpus", "the directory that bench/corpus.sh filled, for real")
	flags.StringVar(&o.tmp, "tmp", "/var/tmp", "work in this directory, which should be on the file system of the images")
	flags.IntVar(&o.rounds, "rounds", 3, "how many rounds")
	flags.BoolVar(&o.write, "write", false, "write bench/CLIENT.md too")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 || o.rounds < 1 {
		return o, fmt.Errorf("want flags alone, and 1 round or more; see bench client --help")
	}
	return o, nil
}

// installedTools are the commands of installed.sh that a machine may lack.
var installedTools = []string{"wget", "sha512sum", "rdiff"}

// clients compares updates of clients.
type clients struct {
	binary  string // of ours
	server  *nginx.Server
	mirror  string
	tmp     string
	rounds  int
	missing []string // tools of the installed client
	w       io.Writer
}

func runClient(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseClient(args, stderr)
	if err != nil {
		return err
	}
	if len(missingTools([]string{nginx.Command})) > 0 {
		return errors.New("nginx is not installed; install it, on Debian nginx-light")
	}
	tmp, err := os.MkdirTemp(o.tmp, "bench-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	images, pairs, err := clientCorpus(ctx, o, tmp)
	if err != nil {
		return err
	}
	var b strings.Builder
	c := &clients{
		binary: filepath.Join(tmp, "puavo-update-image"), mirror: filepath.Join(tmp, "mirror"), tmp: tmp,
		rounds: o.rounds, missing: missingTools(slices.Clone(installedTools)), w: io.MultiWriter(stdout, &b),
	}
	if err := c.prepare(ctx, images); err != nil {
		return err
	}
	defer c.server.Stop()
	if err := c.preface(o); err != nil {
		return err
	}
	for _, p := range pairs {
		if err := c.compare(ctx, p); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	if o.write {
		return writeReport("CLIENT.md", b.String())
	}
	return nil
}

// prepare builds ours and a mirror, and serves it.
func (c *clients) prepare(ctx context.Context, images string) error {
	if err := build.Command(ctx, "puavo-update-image", c.binary); err != nil {
		return err
	}
	builder, err := newBuilder(ctx, c.tmp)
	if err != nil {
		return err
	}
	if _, _, err := builder.build(ctx, images, c.mirror); err != nil {
		return err
	}
	c.server, err = nginx.Start(ctx, c.mirror, filepath.Join(c.tmp, "nginx"))
	return err
}

// preface writes what the results are of.
func (c *clients) preface(o clientOptions) error {
	fmt.Fprintf(c.w, "# Clients\n\n    go -C bench run . client --corpus %s --rounds %d\n\n", o.corpus, o.rounds)
	for _, line := range measure.Machine() {
		fmt.Fprintf(c.w, "- %s\n", line)
	}
	fmt.Fprintf(c.w, "- %s\n", measure.FirstLine(nginx.Command, "-v"))
	for _, tool := range installedTools {
		if slices.Contains(c.missing, tool) {
			fmt.Fprintf(c.w, "- not installed: %s; the installed client is left out\n", tool)
		} else {
			fmt.Fprintf(c.w, "- %s\n", measure.FirstLine(tool, "--version"))
		}
	}
	_, err := fmt.Fprintln(c.w, `
Each update makes an image from the one in its directory and the delta from it, which a local nginx serves over plain HTTP; it is compared
with the image that it should be. "installed" is bench/installed.sh: wget of the meta and the delta, sha512sum of the delta, rdiff patch,
sha512sum of the image, sync, mv, one after the other. The installed client calls sync for the whole machine; here it is sync FILE, which
is what ours does. What it does in ruby and with jq is left out. "ours" is puavo-update-image, with a base that it knows nothing of, and with
one that an earlier run has seen. Both find base and delta in the page cache, memory that was used just before, and nothing that is left to be
written.

Times are seconds, medians of the rounds, of which every second one is in the opposite order. "times faster" is by the clock, in the same
round: the median, the least and the most. "CPU" is what the client's processes take of all processors, by user and system, without nginx;
"times less" is the median of its ratios in the same round. "fetched" are the bytes of all bodies, by
nginx' log; "read" is what read calls gave, of files and connections; "written" is all that the client's processes wrote to files, removed or
not. "memory" and "besides" are of a round before, which is not timed: memory is the peak of anonymous memory of all processes of the client
together, looked at every 10 ms, besides the most that the directory took on the disk beyond base and new image, looked at every 3 ms.`)
	return err
}

// contender is a client with a directory of images of its own.
type contender struct {
	name    string
	dir     string
	knows   bool      // what an earlier run has left beside the base stays there
	command []string  // in dir
	first   updated   // it was looked at, and its time does not count
	rounds  []updated // all others
}

// installed is the name of the client that others are compared with.
const installed = "installed"

// process returns the command, which ends with ctx and takes all that it has started
// with it. Of the environment it gets what it needs to find commands: no proxies,
// and no options.
func (k *contender) process(ctx context.Context) *exec.Cmd {
	cmd := exec.CommandContext(ctx, k.command[0], k.command[1:]...)
	cmd.Dir = k.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "PUAVO_UPDATE_IMAGE_CONFIG="}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}

// updated is what was measured of an update.
type updated struct {
	measure.Figures
	fetched, besides int64
	stages           []measure.Stage
}

// contenders returns the clients, the installed one first if it can run, each
// with the base in a directory below dir. All bases are links to the same file if
// they can be, made before the first run: another link would change the file's
// time, by which a client may tell that it is the one it knows.
func (c *clients) contenders(u *update, dir string) (all []*contender, err error) {
	script, err := filepath.Abs("installed.sh")
	if err != nil {
		return nil, err
	}
	base, target := filepath.Base(u.base), u.target.Name.String()
	if len(c.missing) == 0 {
		all = append(all, &contender{name: installed, command: []string{"sh", script, c.server.URL, u.series, u.deltaPath(),
			u.delta.Sums.SHA512.String(), base, target, u.target.Sums.SHA512.String()}})
	}
	ours := []string{c.binary, "--mirror", c.server.URL, "--images-dir", ".", target}
	all = append(all, &contender{name: "ours", command: ours}, &contender{name: "ours, known base", command: ours, knows: true})
	for i, k := range all {
		k.dir = filepath.Join(dir, strconv.Itoa(i))
		if err := os.MkdirAll(k.dir, 0o777); err != nil {
			return nil, err
		}
		if err := linkOrCopy(u.base, filepath.Join(k.dir, base)); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// compare measures the clients over a pair, in turn.
func (c *clients) compare(ctx context.Context, p pair) error {
	u, found, err := updateOf(p, c.mirror)
	if err != nil {
		return err
	}
	if !found {
		_, err := fmt.Fprintf(c.w, "\n## %s\n\nLeft out: the mirror has no delta of this pair.\n", p.name)
		return err
	}
	dir := filepath.Join(c.tmp, "clients")
	defer os.RemoveAll(dir)
	all, err := c.contenders(u, dir)
	if err != nil {
		return err
	}
	for round := range c.rounds + 1 {
		order := slices.Clone(all)
		if round%2 == 0 {
			slices.Reverse(order)
		}
		for _, k := range order {
			if round == 0 && k.knows { // it leaves what the client is to know
				if _, err := c.run(ctx, u, k, false); err != nil {
					return fmt.Errorf("%s: %w", k.name, err)
				}
			}
			got, err := c.run(ctx, u, k, round == 0)
			if err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
			if round == 0 {
				k.first = got
			} else {
				k.rounds = append(k.rounds, got)
			}
		}
	}
	return c.write(u, all)
}

// run has a client make the image once, compares it with the target, and removes
// it. A run is timed, or looked at meanwhile.
func (c *clients) run(ctx context.Context, u *update, k *contender, look bool) (got updated, err error) {
	if err := useMemory(ctx, filepath.Join(k.dir, "memory"), 2*u.target.Sums.Size); err != nil {
		return got, err
	}
	syscall.Sync()
	if err := files.Warm([]string{filepath.Join(k.dir, filepath.Base(u.base)), filepath.Join(c.mirror, u.deltaPath())}); err != nil {
		return got, err
	}
	if _, err := c.server.Fetched(ctx); err != nil {
		return got, err
	}
	cmd := k.process(ctx)
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	if look {
		peak := measure.Peak(3*time.Millisecond, func() int64 { return besides(k.dir, u) })
		got.Figures, err = measure.Command(cmd)
		got.besides = peak()
	} else {
		got.Figures, err = measure.Time(cmd)
	}
	if err != nil {
		return got, err
	}
	got.stages = measure.Stages(stdout.String())
	if got.fetched, err = c.server.Fetched(ctx); err != nil {
		return got, err
	}
	if err := files.Same(filepath.Join(k.dir, u.target.Name.String()), u.pair.target); err != nil {
		return got, err
	}
	return got, k.reset(u)
}

// reset removes what a run has left, but for the base, and what the client
// is to know of it.
func (k *contender) reset(u *update) error {
	entries, err := os.ReadDir(k.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == filepath.Base(u.base) || k.knows && e.Name() != u.target.Name.String() {
			continue
		}
		if err := os.RemoveAll(filepath.Join(k.dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// besides returns what a directory takes on the disk, in bytes, beyond base and
// target, whole or in the making.
func besides(dir string, u *update) (sum int64) {
	filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || e.Name() == filepath.Base(u.base) {
			return nil // most often it has just been removed
		}
		info, err := e.Info()
		if err != nil {
			return nil
		}
		if strings.TrimSuffix(e.Name(), ".tmp") == u.target.Name.String() {
			sum += max(0, info.Size()-u.target.Sums.Size)
		} else {
			sum += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return nil
	})
	return sum
}

// write writes the table of a pair.
func (c *clients) write(u *update, all []*contender) error {
	info, err := os.Stat(u.base)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.w, "\n## %s\n\n%s to %s bytes, a delta of %s, %d rounds, after them a load of %s.\n\n", u.name, report.Group(info.Size()),
		report.Group(u.target.Sums.Size), report.Group(u.delta.Sums.Size), c.rounds, strings.Join(measure.Load(), " "))
	t := report.NewWriter(c.w, "client", "time s", "times faster", "least", "most", "CPU s", "times less", "memory MB", "fetched MB", "read MB", "besides bytes", "written MB")
	for _, k := range all {
		of := func(of func(updated) int64) float64 {
			return measure.Column(k.rounds, func(r updated) float64 { return float64(of(r)) })
		}
		cells := append([]any{k.name, report.Hundredths(measure.Column(k.rounds, func(r updated) float64 { return r.Seconds }))}, k.faster(all[0])...)
		t.Line(append(cells, report.Hundredths(measure.Column(k.rounds, func(r updated) float64 { return r.CPU })), k.lessCPU(all[0]),
			report.MB(float64(k.first.Anonymous)), report.MB(of(func(r updated) int64 { return r.fetched })),
			report.MB(of(func(r updated) int64 { return r.Read })), report.Group(k.first.besides),
			report.MB(of(func(r updated) int64 { return r.Written })))...)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return c.writeStages(all[0])
}

// faster returns how many times faster a client is than the installed one: the
// median, the least and the most of all rounds.
func (k *contender) faster(than *contender) []any {
	ratios := k.ratios(than, func(r updated) float64 { return r.Seconds })
	if ratios == nil {
		return []any{"-", "-", "-"}
	}
	return []any{report.Hundredths(measure.Median(ratios)), report.Hundredths(slices.Min(ratios)), report.Hundredths(slices.Max(ratios))}
}

// lessCPU writes how many times less CPU a client takes than the installed one: the
// median.
func (k *contender) lessCPU(than *contender) string {
	ratios := k.ratios(than, func(r updated) float64 { return r.CPU })
	if ratios == nil {
		return "-"
	}
	return report.Hundredths(measure.Median(ratios))
}

// ratios returns the installed client's figure to this one's, a round each; none if
// the other is not the installed one.
func (k *contender) ratios(than *contender, of func(updated) float64) (all []float64) {
	if than.name != installed {
		return nil
	}
	for i, r := range k.rounds {
		all = append(all, of(than.rounds[i])/of(r))
	}
	return all
}

// writeStages writes where the time of the installed client goes.
func (c *clients) writeStages(k *contender) error {
	if len(k.rounds[0].stages) == 0 {
		return nil
	}
	var parts []string
	for i, s := range k.rounds[0].stages {
		seconds := measure.Column(k.rounds, func(r updated) float64 { return r.stages[i].Seconds })
		parts = append(parts, fmt.Sprintf("%s %.2f", s.Name, seconds))
	}
	_, err := fmt.Fprintf(c.w, "\nOf the installed client's seconds: %s.\n", strings.Join(parts, ", "))
	return err
}
