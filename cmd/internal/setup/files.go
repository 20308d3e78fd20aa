package setup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"puavo-image-repository/cmd/internal/outfile"
)

// file is a file that the setup writes.
type file struct {
	path string
	mode fs.FileMode
	data []byte
}

// keys are the keys of the settings, in the order in which they are written, with what is
// said above them.
var keys = []struct{ about, flag string }{
	{"Where the images and the mirror are.", "images-dir"}, {"", "mirror-dir"}, {"", "repository"},
	{"Which images form a series.", "config"}, {"", "puavo-os"},
	{"Which images are published; the others leave the mirror after the grace period.", "keep-last"},
	{"", "keep-daily"}, {"", "keep-weekly"}, {"", "keep-monthly"}, {"", "keep-yearly"},
	{"The keys that sign the mirror.", "sign-keys"}, {"", "passphrase-file"},
}

// settingsText returns the text of a file of settings, without the answers that say nothing.
// configs are the series files, of which there can be several. A value that a line cannot
// hold is an error.
func settingsText(a Answers, configs []string) ([]byte, error) {
	var b strings.Builder
	b.WriteString("# Settings of puavo-update-repository. The keys are its options; see --help.\n")
	for _, key := range keys {
		values := []string{a[key.flag]}
		if key.flag == "config" && len(configs) > 0 {
			values = configs
		}
		for i, value := range values {
			if value == "" || value == None || strings.HasPrefix(key.flag, "keep-") && value == "0" {
				continue
			}
			if strings.TrimSpace(value) != value || strings.ContainsFunc(value, isControl) {
				return nil, fmt.Errorf("--%s %q: a settings file cannot hold control characters, or spaces at either end; choose another name", key.flag, value)
			}
			if i == 0 && key.about != "" {
				fmt.Fprintf(&b, "\n# %s\n", key.about)
			}
			fmt.Fprintf(&b, "%s = %s\n", key.flag, value)
		}
	}
	b.WriteString(compactText)
	return []byte(b.String()), nil
}

// compactText are settings about which nothing is asked.
const compactText = `
# Compact deltas, for clients that have puavo-update-image: to the newest image of each series.
# They are made when all else is published, in this time; what is left, the next run makes.
compact = newest
compact-time = 2h
`

func isControl(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }

// credentialDir is where encrypted credentials are.
const credentialDir = "/etc/credstore.encrypted/"

// units returns the service and the timer of systemd that build with a file of settings,
// none without a timer. name is that of the units, without .service, and program the path
// of the builder.
//
// The passphrase of the keys is a credential, if that is the answer: of a name an encrypted
// one in the place that systemd has for them, of a path a plain file. ImportCredential, which
// finds either, is too new for installed systems: it came with systemd 254.
func units(a Answers, name, program, settings string) []file {
	if !a.has("timer") {
		return nil
	}
	run := quote(program) + " --settings " + argument(settings) + " --background"
	load, id := credential(a)
	if id != "" {
		run += " --passphrase-file %d/" + specifiers(id)
	}
	about := "Description=Build the repository of OS images in " + specifiers(a["mirror-dir"]) + "\n"
	service := "[Unit]\n" + about + mounts(a) + "\n" +
		"[Service]\nType=oneshot\n" + load + "ExecStart=" + run + "\n"
	timer := "[Unit]\n" + about + "\n" +
		"[Timer]\nOnCalendar=" + specifiers(a["timer"]) + "\nPersistent=true\n\n" +
		"[Install]\nWantedBy=timers.target\n"
	path := filepath.Join(a["units-dir"], name)
	return []file{{path + ".service", 0o644, []byte(service)}, {path + ".timer", 0o644, []byte(timer)}}
}

// dropIns returns what the installed units of a package need besides, for the settings of a
// name; the last is for the timer. Without a timer there are none. Of the other units, those
// that sign get the passphrase too.
func dropIns(a Answers, name string) (files []file) {
	if !a.has("timer") {
		return nil
	}
	load, id := credential(a)
	if id != "" {
		load += "Environment=PUAVO_UPDATE_REPOSITORY_PASSPHRASE_FILE=%d/" + specifiers(id) + "\n"
	}
	service := "[Unit]\n" + mounts(a)
	if id != "" {
		service += "\n[Service]\n" + load
	}
	add := func(unit, text string) {
		path := filepath.Join(a["units-dir"], unit+".d", "init.conf")
		files = append(files, file{path, 0o644, []byte("# Written by " + program + " init.\n" + text)})
	}
	add(program+"@"+name+".service", service)
	if id != "" {
		add(program+"-renew@"+name+".service", service)
		add(program+"-publish@"+name+".service", service)
	}
	add(program+"@"+name+".timer", "[Timer]\nOnCalendar=\nOnCalendar="+specifiers(a["timer"])+"\n")
	return files
}

// mounts returns the line that makes a unit wait for the disks of images and mirror.
func mounts(a Answers) string {
	return "RequiresMountsFor=" + quote(a["images-dir"]) + " " + quote(a["mirror-dir"]) + "\n"
}

// credential returns the line that loads the passphrase as a credential, and the name under
// which a service finds it; "" if the answers want none.
func credential(a Answers) (load, id string) {
	c := a["passphrase-credential"]
	switch {
	case !a.has("passphrase-credential") || !a.has("sign-keys"):
		return "", ""
	case filepath.IsAbs(c):
		return "LoadCredential=passphrase:" + specifiers(c) + "\n", "passphrase"
	default:
		return "LoadCredentialEncrypted=" + c + ":" + credentialDir + c + "\n", c
	}
}

// specifiers returns a text in which systemd sees no specifiers.
func specifiers(text string) string { return strings.ReplaceAll(text, "%", "%%") }

// argument returns a word of a command line of systemd, in which $ begins a variable.
func argument(word string) string { return quote(strings.ReplaceAll(word, "$", "$$")) }

// quote returns a word of a line of systemd.
func quote(word string) string {
	word = specifiers(word)
	if !strings.ContainsAny(word, " \t\"'\\;#") {
		return word
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(word) + `"`
}

// checkNew returns an error if a file that init would write exists, so that nothing is done in
// vain.
func checkNew(files []file) error {
	for _, f := range files {
		if _, err := os.Lstat(f.path); err == nil {
			return fmt.Errorf("%s: %w; choose another, or replace it with --force", f.path, fs.ErrExist)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// write writes the files, each whole or not at all. Unless force is set, it replaces none.
func write(files []file, force bool) error {
	for _, f := range files {
		err := outfile.WriteNew(f.path, f.mode, f.data)
		if errors.Is(err, fs.ErrExist) && force {
			err = outfile.Write(f.path, f.mode, f.data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
