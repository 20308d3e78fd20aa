package setup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/cmd/internal/command"
)

const passphrase = "correct horse battery"

// place is a directory with images in which a setup runs.
type place struct {
	*testing.T
	dir          string
	prompts, out strings.Builder
	say          strings.Builder
	fresh        []bool // how the passphrase was asked for
	files        []string
}

func newPlace(t *testing.T) *place {
	p := &place{T: t, dir: t.TempDir()}
	if err := os.Mkdir(p.path("images"), 0o777); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *place) path(elem ...string) string {
	return filepath.Join(append([]string{p.dir}, elem...)...)
}

// setup returns a setup with answers of "flag=value", DIR standing for the directory.
func (p *place) setup(answers ...string) Setup {
	a := make(Answers)
	for _, s := range answers {
		flag, value, _ := strings.Cut(s, "=")
		a[flag] = strings.ReplaceAll(value, "DIR", p.dir)
	}
	return Setup{
		Answers: a, Settings: p.path("conf", "puavo-update-repository.conf"), Program: "/usr/bin/puavo-update-repository",
		Passphrase: func(file string, fresh bool) ([]byte, error) {
			p.fresh, p.files = append(p.fresh, fresh), append(p.files, strings.ReplaceAll(file, p.dir, "DIR"))
			return []byte(passphrase), nil
		},
		CheckURL: func(s string) error {
			if strings.Contains(s, " ") {
				return command.Usage("--repository %q is no URL", s)
			}
			return nil
		},
		Out: &p.out, Say: &p.say,
	}
}

// typed returns a terminal on which lines are typed, one for each prompt, and then Ctrl-D.
func (p *place) typed(lines ...string) func(context.Context, string) (string, error) {
	return func(_ context.Context, prompt string) (string, error) {
		fmt.Fprintln(&p.prompts, prompt)
		if len(lines) == 0 {
			return "", io.EOF
		}
		line := strings.ReplaceAll(lines[0], "DIR", p.dir)
		lines = lines[1:]
		return line, nil
	}
}

// read returns a file, DIR standing for the directory.
func (p *place) read(name string) string {
	p.Helper()
	data, err := os.ReadFile(p.path(name))
	if err != nil {
		p.Error(err)
	}
	return strings.ReplaceAll(string(data), p.dir, "DIR")
}

const settings = "conf/puavo-update-repository.conf"

// Typed answers and flags give the same settings.
func TestAnswers(t *testing.T) {
	const head = "# Settings of puavo-update-repository. The keys are its options; see --help.\n\n" +
		"# Where the images and the mirror are.\nimages-dir = DIR/images\n"
	const plain = head + "mirror-dir = DIR/mirror\nrepository = images.example.org\n"
	const kept = plain + "\n# Which images are published; the others leave the mirror after the grace period.\nkeep-last = 3\nkeep-monthly = 6\n"
	for _, c := range []struct {
		name  string
		flags []string
		typed []string // nil: without a terminal
		want  string
		asked string // prompts that are asked, in order
		says  string
	}{
		{"flags", []string{"images-dir=DIR/images", "mirror-dir=DIR/mirror", "repository=images.example.org", "sign-keys=none"}, nil, plain, "", ""},
		{"flags, on a terminal", []string{"images-dir=DIR/images", "mirror-dir=DIR/mirror", "repository=images.example.org", "sign-keys=none"}, []string{}, plain, "", ""},
		{"usual answers", nil, []string{"DIR/images", "", "images.example.org", "", "", "none", ""}, plain,
			"Directory with the images\n|Directory of the mirror, to be published [DIR/mirror]\n|Host or URL|File that defines the series, or none to find them by the names of the images [none]\n|Number of newest|Directory of the keys|When to build", ""},
		{"images are kept", nil, []string{"DIR/images", "", "images.example.org", "", "3", "", "0", "6", "", "none", ""}, kept, "Publish one image a month, for how many months [0]\n", ""},
		{"images are kept, by flags", []string{"images-dir=DIR/images", "mirror-dir=DIR/mirror", "repository=images.example.org", "sign-keys=none", "keep-last=3", "keep-daily=0", "keep-monthly=6"}, nil, kept, "", ""},
		{"some by flags", []string{"repository=images.example.org", "keep-last=none", "timer=none", "sign-keys=none"}, []string{" DIR/images ", "DIR/mirror", ""}, plain, "", ""},
		{"wrong answers", []string{"keep-last=none", "timer=none", "sign-keys=none"}, []string{"", "DIR/nowhere", "DIR/images", "none", "DIR/mirror", "a b", "images.example.org", "DIR/images", "none"}, plain, "",
			"  an answer is needed\n|nowhere: no such file|  it cannot be none\n|  wrong usage: --repository \"a b\" is no URL\n|is a directory"},
	} {
		p := newPlace(t)
		s := p.setup(c.flags...)
		if c.typed != nil {
			s.Line = p.typed(c.typed...)
		}
		if err := s.Run(t.Context()); err != nil {
			t.Errorf("%s: %v\n%s", c.name, err, &p.prompts)
			continue
		}
		if got, want := p.read(settings), c.want+compactText; got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, got, want)
		}
		prompts := strings.ReplaceAll(p.prompts.String(), p.dir, "DIR")
		for text, all := range map[string]string{prompts: c.asked, p.say.String(): c.says} {
			for want := range strings.SplitSeq(all, "|") {
				_, rest, found := strings.Cut(text, want)
				if !found {
					t.Errorf("%s: %q is not in\n%s", c.name, want, text)
				}
				text = rest
			}
		}
		if len(p.fresh) > 0 || !strings.Contains(p.out.String(), "Build the mirror now:\n  puavo-update-repository --settings "+s.Settings) {
			t.Errorf("%s: passphrases %v, %s", c.name, p.fresh, &p.out)
		}
	}
}

// Without a terminal the missing flags are named, and nothing is written; nor is it where
// an answer is wrong, the input ends or the context does.
func TestFails(t *testing.T) {
	complete := []string{"images-dir=DIR/images", "mirror-dir=DIR/mirror", "repository=h", "sign-keys=none"}
	with := func(more ...string) []string { return append(slices.Clone(complete), more...) }
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name  string
		ctx   context.Context
		flags []string
		typed []string
		says  string
		is    error
	}{
		{"nothing", nil, nil, nil, "init also needs --images-dir, --mirror-dir, --repository, --sign-keys (or --no-signing)", command.ErrUsage},
		{"no root keys", nil, with("sign-keys=DIR/keys"), nil, "init also needs --root-keys (or --root-keys-here)", command.ErrUsage},
		{"no passphrase for the timer", nil, with("sign-keys=DIR/keys", "root-keys=DIR/root", "timer=daily"), nil, "init also needs --passphrase-credential (or --passphrase-file)", command.ErrUsage},
		{"no images", nil, with("images-dir=DIR/nowhere"), nil, "nowhere: no such file", fs.ErrNotExist},
		{"no URL", nil, with("repository=a b"), nil, `--repository "a b" is no URL`, command.ErrUsage},
		{"no number", nil, with("keep-weekly=some"), nil, `--keep-weekly "some", want a number`, command.ErrUsage},
		{"no series file", nil, with("config=DIR/images"), nil, "is a directory", nil},
		{"no credential", nil, with("passphrase-credential=a b"), nil, `--passphrase-credential "a b", want the name`, command.ErrUsage},
		{"a control character", nil, with("mirror-dir=DIR/a\nb"), nil, "a settings file cannot hold", command.ErrUsage},
		{"a wrong time", nil, with("timer=daily\n[Service]"), nil, "--timer", command.ErrUsage},
		{"the end of the input", nil, nil, []string{"DIR/images"}, "--mirror-dir: the input ended; nothing was written", nil},
		{"no keys there", nil, with("sign-keys=DIR"), nil, "has no 1.root.json", nil},
		{"cancelled", cancelled, complete, nil, "", context.Canceled},
	} {
		p := newPlace(t)
		s := p.setup(c.flags...)
		if c.typed != nil {
			s.Line = p.typed(c.typed...)
		}
		ctx := c.ctx
		if ctx == nil {
			ctx = t.Context()
		}
		err := s.Run(ctx)
		if err == nil || !strings.Contains(err.Error(), c.says) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v, want %s", c.name, err, c.says)
		}
		if entries, err := os.ReadDir(p.dir); err != nil || len(entries) != 1 {
			t.Errorf("%s: %v is there, %v", c.name, entries, err)
		}
	}
}

// A signed mirror with a timer: keys in two places, the passphrase in a file or a
// credential, and units that systemd takes.
func TestSigned(t *testing.T) {
	base := []string{"images-dir=DIR/images", "mirror-dir=DIR/mirror", "repository=h", "sign-keys=DIR/keys", "timer=02:30", "units-dir=DIR/units"}
	for _, c := range []struct {
		name     string
		more     []string
		here     bool
		service  string // what is in it
		settings string
		says     string
	}{
		{"a file", []string{"root-keys=DIR/root", "passphrase-file=DIR/secret"}, false,
			"ExecStart=/usr/bin/puavo-update-repository --settings DIR/conf/puavo-update-repository.conf --background\n", "passphrase-file = DIR/secret\n", "DIR/root has the root keys, and a copy of the others. Move it now"},
		{"a credential", []string{"root-keys=DIR/root", "passphrase-credential=keys.passphrase"}, false,
			"LoadCredentialEncrypted=keys.passphrase:/etc/credstore.encrypted/keys.passphrase\nExecStart=/usr/bin/puavo-update-repository --settings DIR/conf/puavo-update-repository.conf --background --passphrase-file %d/keys.passphrase\n", "", "systemd-creds encrypt --name=keys.passphrase - /etc/credstore.encrypted/keys.passphrase"},
		{"a credential in a file", []string{"passphrase-credential=/root/secret"}, true,
			"LoadCredential=passphrase:/root/secret\nExecStart=/usr/bin/puavo-update-repository --settings DIR/conf/puavo-update-repository.conf --background --passphrase-file %d/passphrase\n", "", "The root keys are in DIR/keys too"},
	} {
		if testing.Short() && c.here {
			continue // to make keys takes long
		}
		p := newPlace(t)
		s := p.setup(append(slices.Clone(base), c.more...)...)
		s.RootKeysHere = c.here
		if err := s.Run(t.Context()); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		root, err := filepath.Glob(p.path("keys", "root.*.key"))
		if err != nil || (len(root) > 0) != c.here {
			t.Errorf("%s: root keys of the builder: %v, %v", c.name, root, err)
		}
		if away, _ := filepath.Glob(p.path("root", "root.*.key")); (len(away) > 0) == c.here {
			t.Errorf("%s: root keys to carry away: %v", c.name, away)
		}
		if got := p.read("units/puavo-update-repository.service"); !strings.Contains(got, c.service) || !strings.Contains(got, "Type=oneshot\n") || !strings.Contains(got, "RequiresMountsFor=DIR/images DIR/mirror\n") {
			t.Errorf("%s: the service\n%s", c.name, got)
		}
		if got := p.read("units/puavo-update-repository.timer"); !strings.Contains(got, "OnCalendar=02:30\nPersistent=true\n") || !strings.Contains(got, "WantedBy=timers.target\n") {
			t.Errorf("%s: the timer\n%s", c.name, got)
		}
		if got := p.read(settings); !strings.Contains(got, "sign-keys = DIR/keys\n"+c.settings) || c.settings == "" && strings.Contains(got, "passphrase") {
			t.Errorf("%s: the settings\n%s", c.name, got)
		}
		if got := strings.ReplaceAll(p.out.String(), p.dir, "DIR"); !strings.Contains(got, c.says) || !strings.Contains(got, "systemctl enable --now puavo-update-repository.timer\n") || strings.Contains(got, passphrase) {
			t.Errorf("%s: printed\n%s", c.name, got)
		}
		if c.settings != "" {
			info, err := os.Stat(p.path("secret"))
			if err != nil || info.Mode().Perm() != 0o600 || p.read("secret") != passphrase+"\n" {
				t.Errorf("%s: the passphrase's file: %v, %v", c.name, info, err)
			}
		}
		if !slices.Equal(p.fresh, []bool{true}) {
			t.Errorf("%s: the passphrase was asked for %v", c.name, p.fresh)
		}
	}
}

// What exists is left, or replaced by force; keys and passphrases are used as they are.
func TestExisting(t *testing.T) {
	p := newPlace(t)
	flags := []string{"images-dir=DIR/images", "mirror-dir=DIR/mirror", "repository=h", "sign-keys=DIR/keys", "root-keys=DIR/root", "timer=daily", "units-dir=DIR/units", "passphrase-file=DIR/secret"}
	if err := p.setup(flags...).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	before, service := p.read(settings), p.read("units/puavo-update-repository.service")
	changed := append(slices.Clone(flags), "repository=other", "timer=hourly")
	if err := p.setup(changed...).Run(t.Context()); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "or replace it with --force") {
		t.Errorf("a second setup: %v", err)
	}
	if p.read(settings) != before {
		t.Error("the settings were changed")
	}
	os.Remove(p.path(settings))
	if err := p.setup(changed...).Run(t.Context()); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), ".service") {
		t.Errorf("with a service: %v", err)
	}
	if _, err := os.Stat(p.path(settings)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("settings were written, but no units: %v", err)
	}
	force := p.setup(changed...)
	force.Force = true
	if err := force.Run(t.Context()); err != nil || !strings.Contains(p.read(settings), "repository = other\n") || p.read("units/puavo-update-repository.service") != service {
		t.Errorf("by force: %v", err)
	}
	if !slices.Equal(p.fresh, []bool{true}) {
		t.Errorf("the passphrase was asked for %v", p.fresh)
	}

	// New keys get the passphrase of a file that exists.
	again := p.setup(append(slices.Clone(changed), "sign-keys=DIR/keys2", "root-keys=DIR/root2")...)
	again.Force = true
	if err := again.Run(t.Context()); err != nil || !slices.Equal(p.files, []string{"", "DIR/secret"}) {
		t.Errorf("%v, the passphrases are those of %q", err, p.files)
	}

	// A file for the passphrase that opens the keys is made; another passphrase makes none.
	os.Remove(p.path("secret"))
	force.Passphrase = func(string, bool) ([]byte, error) { return []byte("another passphrase"), nil }
	if err := force.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "wrong passphrase") {
		t.Errorf("a wrong passphrase: %v", err)
	}
	if _, err := os.Stat(p.path("secret")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its file: %v", err)
	}
	if err := os.WriteFile(p.path("secret"), []byte(passphrase), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := force.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "secret: other users can read it (mode 0644); chmod it to 0600") {
		t.Errorf("a file that others may read: %v", err)
	}
}

// Settings of another name give units of another name.
func TestUnitName(t *testing.T) {
	for file, want := range map[string]string{
		"/etc/puavo-update-repository.conf": "puavo-update-repository", "/etc/puavo-update-repository/school.conf": "puavo-update-repository-school",
		"/srv/a_b-c": "puavo-update-repository-a_b-c", "/srv/a b.conf": "",
	} {
		got, err := Setup{Settings: file, Answers: Answers{"timer": "daily"}}.unitName()
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%s: %q, %v, want %q", file, got, err, want)
		}
	}
}

// Odd paths stay whole in units, as systemd itself reads them.
func TestUnits(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "a b 50%")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	a := Answers{"images-dir": "/srv/my images", "mirror-dir": "/srv/50%$x", "timer": "*-*-* 02:30:00", "units-dir": dir, "sign-keys": "/k", "passphrase-credential": "name"}
	files := units(a, "puavo-update-repository", program, `/etc/a "b" \c$HOME;.conf`)
	if err := write(files, false); err != nil {
		t.Fatal(err)
	}
	const want = `RequiresMountsFor="/srv/my images" /srv/50%%$x`
	if !bytes.Contains(files[0].data, []byte(want)) || !bytes.Contains(files[0].data, []byte(`/a b 50%%" --settings "/etc/a \"b\" \\c$$HOME;.conf" --background`)) {
		t.Errorf("%s", files[0].data)
	}
	verifyUnits(t, files)
	if none := units(Answers{"timer": None}, "a", "b", "c"); none != nil {
		t.Errorf("units without a timer: %v", none)
	}
}

// Settings with a name take the units of the package, where that is installed.
func TestInstalledUnits(t *testing.T) {
	dir := t.TempDir()
	text, err := os.ReadFile("../../puavo-update-repository/packaging/units/puavo-update-repository@.service")
	if err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(dir, "puavo-update-repository@.service")
	if err := os.WriteFile(unit, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ settings, program, units, timer string }{
		{"/etc/named/school.conf", installed, dir, "puavo-update-repository@school.timer"},
		{"/etc/named/a-b_C.conf", installed, dir, "puavo-update-repository@a-b_C.timer"},
		{"/etc/named/school", installed, dir, "puavo-update-repository-school.timer"},
		{"/etc/other/school.conf", installed, dir, "puavo-update-repository-school.timer"},
		{"/etc/puavo-update-repository.conf", installed, dir, "puavo-update-repository.timer"},
		{"/etc/named/school.conf", "/usr/local/bin/puavo-update-repository", dir, "puavo-update-repository-school.timer"},
		{"/etc/named/school.conf", installed, filepath.Join(dir, "none"), "puavo-update-repository-school.timer"},
		{"/etc/named/school.conf", installed, "", "puavo-update-repository-school.timer"},
	} {
		s := Setup{Settings: c.settings, Program: c.program, NamedDir: "/etc/named", InstalledUnits: c.units, Answers: Answers{"timer": "daily"}}
		if _, timer, err := s.units(); err != nil || timer != c.timer {
			t.Errorf("%+v: %s, %v", c, timer, err)
		}
	}
}

// Drop-ins have what the answers say, and systemd reads them with the packaged units.
func TestDropIns(t *testing.T) {
	for _, c := range []struct{ credential, want string }{
		{None, "[Unit]\n"},
		{"school.passphrase", "LoadCredentialEncrypted=school.passphrase:/etc/credstore.encrypted/school.passphrase\nEnvironment=PUAVO_UPDATE_REPOSITORY_PASSPHRASE_FILE=%d/school.passphrase\n"},
		{"/root/50%", "LoadCredential=passphrase:/root/50%%\nEnvironment=PUAVO_UPDATE_REPOSITORY_PASSPHRASE_FILE=%d/passphrase\n"},
	} {
		dir := t.TempDir()
		a := Answers{"images-dir": "/srv/images", "mirror-dir": "/srv/my mirror", "timer": "02:30", "units-dir": dir, "sign-keys": "/k", "passphrase-credential": c.credential}
		files := dropIns(a, "school")
		if n := len(files); (n == 4) != (c.credential != None) || filepath.Base(filepath.Dir(files[n-1].path)) != "puavo-update-repository@school.timer.d" ||
			!strings.HasSuffix(string(files[n-1].data), "[Timer]\nOnCalendar=\nOnCalendar=02:30\n") {
			t.Errorf("%s: %d files, the last %s:\n%s", c.credential, n, files[n-1].path, files[n-1].data)
		}
		for _, f := range files[:len(files)-1] {
			if got := string(f.data); !strings.Contains(got, c.want) || !strings.Contains(got, "RequiresMountsFor=/srv/images \"/srv/my mirror\"\n") {
				t.Errorf("%s: %s:\n%s", c.credential, f.path, got)
			}
		}
		if err := write(files, false); err != nil {
			t.Fatal(err)
		}
		verifyInstances(t, dir, "../../puavo-update-repository/packaging/units", files)
	}
	if none := dropIns(Answers{"timer": None}, "a"); none != nil {
		t.Errorf("drop-ins without a timer: %v", none)
	}
}
