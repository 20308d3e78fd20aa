package setup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/imagerepo/trust"
	"puavo-image-repository/meta/untrusted"
)

// Setup is a setup to be run. Its Answers are those that are given.
type Setup struct {
	Answers Answers
	Configs []string // the series files, if they are given
	// RootKeysHere leaves the private root keys with the others.
	RootKeysHere bool
	// Force replaces files that exist, but no keys and no passphrase.
	Force bool

	Settings string // the path of the file of settings
	Program  string // the path of the builder
	// NamedDir has the files of settings that a bare name names. For one of these, timers are
	// those of the package in InstalledUnits, if the builder is the package's own.
	NamedDir, InstalledUnits string

	// Line asks for a line on a terminal; nil is without one.
	Line func(ctx context.Context, prompt string) (string, error)
	// Passphrase returns the passphrase of the keys: that of a file, or another one where
	// file is "". fresh says that keys are made with it.
	Passphrase func(file string, fresh bool) ([]byte, error)
	// Keys are the options for keys that are made, all but Dir and Passphrase.
	Keys trust.Options
	// CheckURL returns an error for what is no base of urls.
	CheckURL func(string) error
	Out      io.Writer // gets what was done, and what to do next
	Say      io.Writer // gets what is wrong with an answer
}

// Run asks for what is missing, makes keys, and writes the files. It makes no keys where
// any are, and replaces no file unless Force is set. Wrong answers, and missing ones
// without a terminal, wrap command.ErrUsage.
func (s Setup) Run(ctx context.Context) error {
	a := s.Answers
	d := dialog{s.Line, s.Say, func(flag, answer string) error { return s.check(ctx, flag, answer) }, s.RootKeysHere}
	if err := d.ask(ctx, a); err != nil {
		return err
	}
	if err := s.absolute(); err != nil {
		return err
	}
	text, err := settingsText(a, s.Configs)
	if err != nil {
		return command.Usage("%v", err)
	}
	units, timer, err := s.units()
	if err != nil {
		return err
	}
	files := append([]file{{s.Settings, 0o644, text}}, units...)
	if err := checkNew(files); err != nil && !(s.Force && errors.Is(err, fs.ErrExist)) {
		return err
	}
	made, passphrase, err := s.secrets()
	if err != nil {
		return err
	}
	defer clear(passphrase)
	if len(passphrase) > 0 {
		if err := write([]file{{a["passphrase-file"], 0o600, append(passphrase, '\n')}}, false); err != nil {
			return err
		}
	}
	if err := write(files, s.Force); err != nil {
		return err
	}
	return s.summarise(files, timer, made)
}

var credentialName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,255}$`)

// check returns an error for an answer that cannot be.
func (s Setup) check(ctx context.Context, flag, answer string) (err error) {
	switch flag {
	case "images-dir":
		if info, statErr := os.Stat(answer); statErr != nil {
			err = statErr
		} else if !info.IsDir() {
			err = &fs.PathError{Op: "open", Path: answer, Err: errors.New("not a directory")}
		}
	case "repository":
		err = s.CheckURL(answer)
	case "config":
		_, err = plan.LoadConfig(ctx, []string{answer})
	case "puavo-os":
		_, err = plan.LoadPuavoOS(ctx, answer)
	case "keep-last", "keep-daily", "keep-weekly", "keep-monthly", "keep-yearly":
		if n, notNumber := strconv.Atoi(answer); notNumber != nil || n < 0 {
			err = command.Usage("--%s %q, want a number, 0 or more", flag, answer)
		}
	case "timer":
		if strings.ContainsFunc(answer, isControl) {
			err = command.Usage("--timer %q, want a time of systemd (OnCalendar), such as daily or 02:30", answer)
		}
	case "passphrase-file":
		err = private(answer)
	case "passphrase-credential":
		if strings.Contains(answer, "/") && s.Answers[flag] == "" {
			err = private(answer) // that of a file, when it is asked for
		} else if filepath.IsAbs(answer) && !strings.ContainsAny(answer, " \t:") || credentialName.MatchString(answer) {
			err = nil
		} else {
			err = command.Usage("--passphrase-credential %q, want the name of a credential, of letters, digits and . _ -, or an absolute path", answer)
		}
	}
	return err
}

// private returns an error for a file with a passphrase that others may read. It need not
// exist.
func private(file string) error {
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s: other users can read it (mode %04o); chmod it to 0600", file, info.Mode().Perm())
	}
	return nil
}

// absolute makes all paths of the answers absolute: a timer runs elsewhere.
func (s Setup) absolute() (err error) {
	for _, flag := range []string{"images-dir", "mirror-dir", "puavo-os", "config", "sign-keys", "root-keys", "units-dir", "passphrase-file"} {
		if s.Answers.has(flag) {
			if s.Answers[flag], err = filepath.Abs(s.Answers[flag]); err != nil {
				return err
			}
		}
	}
	for i := range s.Configs {
		if s.Configs[i], err = filepath.Abs(s.Configs[i]); err != nil {
			return err
		}
	}
	return nil
}

var unitWord = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

const (
	program   = "puavo-update-repository"
	installed = "/usr/bin/" + program // by the package
)

// units returns what systemd needs for the timer, and the name of that.
func (s Setup) units() (files []file, timer string, err error) {
	if name := s.instance(); name != "" {
		return dropIns(s.Answers, name), program + "@" + name + ".timer", nil
	}
	name, err := s.unitName()
	return units(s.Answers, name, s.Program, s.Settings), name + ".timer", err
}

// instance returns the name of the settings for the installed units, "" if these cannot build
// with them.
func (s Setup) instance() string {
	name, isConf := strings.CutSuffix(filepath.Base(s.Settings), ".conf")
	if s.Program != installed || filepath.Dir(s.Settings) != s.NamedDir || !isConf || !unitWord.MatchString(name) {
		return ""
	}
	if _, err := os.Stat(filepath.Join(s.InstalledUnits, program+"@.service")); err != nil {
		return ""
	}
	return name
}

// unitName returns the name of the units, without .service: that of the program, and after
// it that of a file of settings of another name.
func (s Setup) unitName() (string, error) {
	base := strings.TrimSuffix(filepath.Base(s.Settings), ".conf")
	switch {
	case base == program:
		return program, nil
	case !unitWord.MatchString(base) && s.Answers.has("timer"):
		return "", command.Usage("the units are named after %s, so its name must be letters, digits, _ and -, with or without .conf", s.Settings)
	}
	return program + "-" + base, nil
}

// secrets makes keys where they are wanted and missing, and returns whether it made any,
// and the passphrase where its file must be written: one that opens the keys.
func (s Setup) secrets() (made bool, passphrase []byte, err error) {
	a, makes := s.Answers, s.Answers.makesKeys()
	if !a.has("sign-keys") {
		return false, nil, nil
	}
	file := a["passphrase-file"]
	_, noFile := os.Stat(file)
	writes := file != "" && errors.Is(noFile, fs.ErrNotExist)
	if writes {
		file = ""
	}
	if makes || writes {
		if passphrase, err = s.Passphrase(file, makes); err != nil {
			return false, nil, err
		}
	}
	if err = s.keys(makes, passphrase); err != nil || !writes {
		clear(passphrase)
		passphrase = nil
	}
	return makes, passphrase, err
}

// keys makes keys, or opens those that are there: with the passphrase, if there is one.
func (s Setup) keys(makes bool, passphrase []byte) error {
	a, o := s.Answers, s.Keys
	o.Dir = a["sign-keys"]
	o.Passphrase = func(bool) ([]byte, error) { return slices.Clone(passphrase), nil }
	switch {
	case makes && s.RootKeysHere:
		return trust.Init(o)
	case makes:
		return trust.InitApart(o, a["root-keys"])
	}
	keys, err := trust.Open(o)
	if err != nil {
		return err
	}
	defer keys.Close()
	if len(passphrase) == 0 {
		return nil
	}
	return keys.Check(a["mirror-dir"])
}

// summarise says what was written, and what to do next. timer is the name of the unit.
func (s Setup) summarise(files []file, timer string, made bool) error {
	a := s.Answers
	var b strings.Builder
	for _, f := range files {
		fmt.Fprintf(&b, "Wrote %s.\n", f.path)
	}
	if made {
		fmt.Fprintf(&b, "%[1]s has the signing keys. Give clients %[1]s/1.root.json, but not through the mirror.\n", a["sign-keys"])
	}
	if made && s.RootKeysHere {
		fmt.Fprintf(&b, "The root keys are in %s too: whoever takes over this machine can change all keys. Move root.*.key elsewhere when you can.\n", a["sign-keys"])
	} else if made {
		fmt.Fprintf(&b, "%[1]s has the root keys, and a copy of the others. Move it now to an offline machine or medium, and remove it here: it is needed only to change keys.\n", a["root-keys"])
	}
	if a.has("timer") {
		if c := a["passphrase-credential"]; a.has("passphrase-credential") && a.has("sign-keys") {
			fmt.Fprintf(&b, "Store the passphrase for the service:\n  %s\n", credentialCommand(c))
		}
		fmt.Fprintf(&b, "Start the timer:\n  systemctl daemon-reload && systemctl enable --now %s\n", timer)
	}
	fmt.Fprintf(&b, "Build the mirror now:\n  %s --settings %s\n", program, s.Settings)
	_, err := io.WriteString(s.Out, untrusted.ShowLines(b.String()))
	return err
}

// credentialCommand returns the command that makes a credential.
func credentialCommand(credential string) string {
	if filepath.IsAbs(credential) {
		return "install -m 600 /dev/stdin " + credential
	}
	return fmt.Sprintf("systemd-ask-password -n | systemd-creds encrypt --name=%[1]s - %[2]s%[1]s", credential, credentialDir)
}
