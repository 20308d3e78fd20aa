// Command puavo-update-repository builds a repository of OS images: a directory
// with the images, deltas between them and their digests, which any static HTTPS
// host can serve. See its --help and the README.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/cmd/internal/completion"
	"puavo-image-repository/cmd/internal/config"
	"puavo-image-repository/cmd/internal/notify"
	"puavo-image-repository/cmd/internal/setup"
	"puavo-image-repository/cmd/internal/ui"
	"puavo-image-repository/cmd/puavo-update-repository/internal/archivecmd"
	"puavo-image-repository/cmd/puavo-update-repository/internal/describe"
	"puavo-image-repository/cmd/puavo-update-repository/internal/diffcmd"
	"puavo-image-repository/cmd/puavo-update-repository/internal/farmcmd"
	"puavo-image-repository/cmd/puavo-update-repository/internal/publishcmd"
	"puavo-image-repository/cmd/puavo-update-repository/internal/pullcmd"
	"puavo-image-repository/cmd/puavo-update-repository/internal/servecmd"
	"puavo-image-repository/imagerepo/archive"
	"puavo-image-repository/imagerepo/audit"
	"puavo-image-repository/imagerepo/imagediff"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/imagerepo/publish"
	"puavo-image-repository/imagerepo/pull"
)

func main() {
	umask = syscall.Umask(ourUmask)
	os.Exit(command.Main(run, badInput...))
}

// badInput are the errors for unusable input.
var badInput = []error{plan.ErrInput, plan.ErrConfig, plan.ErrNoSeries, audit.ErrNoMirror, imagediff.ErrImage, publish.ErrMirror, pull.ErrInput, pull.ErrUntrusted, pull.ErrRemoval, pullcmd.ErrKeepList, archive.ErrStore, archive.ErrDamaged}

// ourUmask lets others read what this makes, and not write it; umask is the one that this
// process inherited.
const ourUmask = 0o022

var umask = ourUmask

// configuration is where options can be set, apart from the command line.
var configuration = config.Source{
	File: "/etc/puavo-update-repository.conf", Dir: "/etc/puavo-update-repository",
	Prefix: "PUAVO_UPDATE_REPOSITORY_", Option: "settings",
	Others:  map[string]string{"repository": "PUAVO_REPOSITORY_URL"},
	Without: []string{"init", "archive"}, // what a build keeps is not what an archive keeps
}

func run(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) error {
	var settings config.Settings
	var app *cli.App
	file := func() string { return configuration.Path(app, args, os.LookupEnv) }
	app = newApp(&settings, file, stdout, stderr)
	if asked, err := describe.Print(ctx, app, configuration, args, stdout); asked {
		return err
	}
	args, err := command.Settle(app, args, hasImages, map[string]func([]string) bool{
		"":              func(names []string) bool { return len(names) >= 1 && len(names) <= 2 },
		"init":          func(names []string) bool { return len(names) == 0 },
		"help":          func([]string) bool { return true },
		completion.Name: func(names []string) bool { return len(names) == 1 && slices.Contains(completion.Shells(), names[0]) },
		"serve":         func(names []string) bool { return len(names) <= 1 },
		"worker":        func(names []string) bool { return len(names) == 0 },
		"diff":          func(names []string) bool { return len(names) == 2 },
		"publish":       func(names []string) bool { return true },
		"pull":          func(names []string) bool { return true },
		"config":        func(names []string) bool { return slices.Equal(names, []string{"show"}) },
		"archive":       func(names []string) bool { return len(names) >= 1 && archivecmd.Is(names[0]) },
	})
	if err != nil {
		return err
	}
	if named := command.Named(app, args); named == "init" || named == completion.Name { // the one writes settings, the other needs none
		return command.Run(ctx, app, args, stdout, stderr)
	}
	if settings, err = configuration.Configure(ctx, app, args, os.LookupEnv); err != nil {
		return err
	}
	return command.Run(ctx, app, args, stdout, stderr)
}

// hasImages reports whether a path is that of a directory with files that may be images.
func hasImages(path string) bool {
	entries, err := os.ReadDir(path)
	return err == nil && slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return filepath.Ext(e.Name()) == ".img" })
}

// newApp returns the app. settings are filled in before it runs, and file, which is called
// when it does, returns the path of their file.
func newApp(settings *config.Settings, file func() string, stdout, stderr io.Writer) *cli.App {
	return &cli.App{
		Name:  "puavo-update-repository",
		Usage: "build a repository of OS images for a static HTTPS host",
		UsageText: `puavo-update-repository [options] IMAGE_DIR [MIRROR_DIR]
   puavo-update-repository --settings FILE_OR_NAME [options]`,
		Description: `Fills MIRROR_DIR (default: IMAGE_DIR/mirror), which any web server can serve,
   with the images of IMAGE_DIR, deltas between them, and checksums. Correct
   files are kept, and files that it did not make are left alone. An image that
   is removed from IMAGE_DIR is removed from the mirror as well.

   Example:
      puavo-update-repository -r images.example.org puavo-os-images mirror
   To upload the mirror to a host, or update it there:
      puavo-update-repository publish mirror sftp://host/srv/images

   ` + configuration.Help("mirror-dir = /srv/mirror") + ` The keys images-dir and
   mirror-dir apply if no directory is given as an argument.

   Exit codes: ` + command.ExitCodes,
		Flags: flags(),
		Action: reporting("build", stderr, func(c *cli.Context, screen *ui.Screen) error {
			return meantCommand(c, build(c, settings, stdout, screen))
		}),
		Commands: []*cli.Command{
			initCommand(file, stdout, stderr),
			verifyCommand(settings, stdout, stderr),
			statusCommand(stdout, stderr),
			publishcmd.New(publishing(), stdout, stderr),
			pullcmd.New(pulling(settings), stdout, stderr),
			servecmd.New(mirrorDir, []cli.Flag{mirrorFlag(), settingsFlag()}, stdout, stderr),
			farmcmd.New([]cli.Flag{settingsFlag()}, stderr),
			diffcmd.New(stdout, stderr),
			archivecmd.New(archiving(), stdout, stderr),
			keysCommand(stdout, stderr),
			config.Command("puavo-update-repository", settings, flags(), stdout),
			completion.Command("puavo-update-repository", stdout),
			command.HelpCommand("puavo-update-repository"),
		},
	}
}

// reporting returns what runs a command, called name. Where that has the option --notify, a
// failure is reported by its shell command, under the umask of whoever gave it.
func reporting(name string, stderr io.Writer, run func(*cli.Context, *ui.Screen) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		screen := command.Start(c, stderr)
		err := run(c, screen)
		code := command.ExitCode(c.Context, err, badInput...)
		hook := command.Own(c, "notify")
		if hook == "" || !command.IsFailure(code, err) || code == command.Interrupted {
			return err
		}
		if umask != ourUmask {
			hook = fmt.Sprintf("umask %03o; %s", umask, hook)
		}
		failure := notify.Failure{Program: c.App.Name, Command: name, Err: err, ExitCode: code}
		if err := notify.Run(c.Context, hook, failure, screen.Output()); err != nil {
			screen.Log().Warn("could not run the command of --notify", "reason", err)
		}
		return err
	}
}

// notifyFlag returns the flag for what reports a failure.
func notifyFlag() cli.Flag {
	return &cli.StringFlag{Name: "notify", Category: command.Output, Usage: notify.Usage}
}

// publishing returns what the command publish takes from here.
func publishing() publishcmd.Tools {
	return publishcmd.Tools{
		Keys: func(c *cli.Context, mirror string, screen *ui.Screen) (publish.Signer, func(), error) {
			keys, err := signKeys(c, mirror, screen)
			if keys == nil {
				return nil, func() {}, err
			}
			return keys, func() { keys.Close() }, nil
		},
		Reporting: reporting,
		Flags: slices.Concat([]cli.Flag{
			mirrorFlag(),
			&cli.StringFlag{Name: "images-dir", Usage: "refuse a destination inside `DIR`, the directory of the images"},
			&cli.StringFlag{Name: "sign-keys", Category: signing, Usage: "sign withdrawals, and then the mirror, with the keys in `DIR`"},
			passphraseFlag(), ignoreClockFlag(),
		}, expireFlags(), []cli.Flag{notifyFlag(), settingsFlag()}),
	}
}

// pulling returns what the command pull takes from here.
func pulling(settings *config.Settings) pullcmd.Tools {
	return pullcmd.Tools{
		Keys: func(c *cli.Context, dir string, screen *ui.Screen) (pull.Signer, func(), error) {
			keys, err := signKeys(c, dir, screen)
			if keys == nil {
				return nil, func() {}, err
			}
			return keys, func() { keys.Close() }, nil
		},
		ParseURL:  parseURL,
		Reporting: reporting,
		ExitCode:  func(c *cli.Context, err error) int { return command.ExitCode(c.Context, err, badInput...) },
		Sets:      func(key string) bool { return settings.Sets(key) },
		Flags: slices.Concat([]cli.Flag{
			&cli.StringFlag{Name: "mirror-dir", Usage: "`DIR`: directory of the copy, if DIR is not given as an argument"},
			&cli.StringFlag{Name: "sign-keys", Category: signing, Usage: "sign the copy's own documents with the keys in `DIR`"},
			passphraseFlag(), ignoreClockFlag(),
		}, expireFlags(), []cli.Flag{notifyFlag(), settingsFlag()}),
	}
}

// archiving returns what the command archive takes from here.
func archiving() archivecmd.Tools {
	return archivecmd.Tools{
		Reporting: reporting,
		ExitCode:  func(c *cli.Context, err error) int { return command.ExitCode(c.Context, err, badInput...) },
		Notify:    notifyFlag(),
	}
}

// meantCommand returns the error of a build, with the command that its first argument may be
// meant for, where no directory has that name.
func meantCommand(c *cli.Context, err error) error {
	first := c.Args().First()
	near := command.NearCommand(c, first)
	if _, missing := os.Stat(first); err == nil || near == "" || !errors.Is(missing, fs.ErrNotExist) {
		return err
	}
	return fmt.Errorf("%w; did you mean the command %s?", err, near)
}

// settingsFlag returns the flag for the file of settings, which all commands have.
func settingsFlag() cli.Flag {
	return &cli.StringFlag{Name: configuration.Option, Usage: "read settings from `FILE_OR_NAME`; a bare NAME means " + configuration.Dir + "/NAME.conf"}
}

// mirrorFlag returns the flag for the mirror.
func mirrorFlag() cli.Flag {
	return &cli.StringFlag{Name: "mirror-dir", Usage: "`DIR`: directory of the mirror, if MIRROR_DIR is not given"}
}

// initCommand returns the command that writes settings, to the file of this path.
func initCommand(file func() string, stdout, stderr io.Writer) *cli.Command {
	what := slices.Concat([]cli.Flag{
		&cli.StringFlag{Name: "images-dir", Usage: "`DIR`: directory of the images"},
		&cli.StringFlag{Name: "mirror-dir", Usage: "`DIR`: directory of the mirror, new or existing"},
	}, seriesFlags(), keepFlags())
	return &cli.Command{
		Name:      "init",
		Usage:     "ask questions; write settings, keys and a systemd timer",
		UsageText: "puavo-update-repository init [options]",
		Description: `Asks what a build needs to know, and writes the answers to
   ` + configuration.File + `, or to the file or NAME of --settings.
   Each option answers a question in advance. If the options answer all required
   questions, nothing is asked. Without a terminal, init lists the options that
   are missing. Existing files are replaced only with --force; keys and
   passphrases are never replaced.

   The signing keys are created in --sign-keys, unless it already has keys. The
   root keys, needed only to change keys, are created in a directory of their
   own, --root-keys: move it to a machine without a network. With
   --root-keys-here they stay with the others. The timer reads the passphrase
   from a file of mode 0600, which init writes if it is missing, or from a
   systemd credential. Settings with a NAME use the units of the Debian package
   if that is installed; otherwise init writes units.

   Exit codes: ` + command.ExitCodes,
		Flags: slices.Concat(command.Category(whatToBuild, what...), initFlags(), []cli.Flag{settingsFlag()}, command.Flags("has no effect")),
		Action: func(c *cli.Context) error {
			screen := command.Start(c, stderr)
			if c.NArg() > 0 {
				return command.Usage("unexpected argument %q; give the directories with --images-dir and --mirror-dir", c.Args().First())
			}
			return initialize(c, file(), stdout, stderr, screen)
		},
	}
}

// initFlags returns the flags of init that are no build's.
func initFlags() []cli.Flag {
	return slices.Concat(command.Category(signing,
		&cli.StringFlag{Name: "sign-keys", Usage: "sign with the keys in `DIR`, which are created if missing"},
		&cli.BoolFlag{Name: "no-signing", Usage: "do not sign the mirror"},
		&cli.StringFlag{Name: "root-keys", Usage: "create the root keys in `DIR`, to be moved to an offline machine"},
		&cli.BoolFlag{Name: "root-keys-here", Usage: "keep the root keys with the other keys"},
		passphraseFlag(),
		&cli.StringFlag{Name: "passphrase-credential", Usage: "let the timer read the passphrase from the systemd credential `NAME`, or from the credential file at an absolute path"},
		weakFlag(),
	), command.Category("Timer",
		&cli.StringFlag{Name: "timer", Usage: "build at `TIMES`, e.g. daily or 02:30; see systemd.time(7)"},
		&cli.StringFlag{Name: "units-dir", Usage: "write the service and the timer to `DIR`", DefaultText: "/etc/systemd/system"},
	), command.Category(command.Output, &cli.BoolFlag{Name: "force", Usage: "replace existing settings and units"}))
}

// initialize runs the setup.
func initialize(c *cli.Context, file string, stdout, stderr io.Writer, screen *ui.Screen) error {
	if c.Bool("no-signing") && c.String("sign-keys") != "" || c.Bool("root-keys-here") && c.String("root-keys") != "" || c.String("passphrase-file") != "" && c.String("passphrase-credential") != "" {
		return command.Usage("these options exclude each other: --sign-keys and --no-signing, --root-keys and --root-keys-here, --passphrase-file and --passphrase-credential")
	}
	if file == "" {
		return command.Usage("--settings is empty; init needs a file to write")
	}
	file, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	keys, err := keyOptions(c, "", screen)
	if err != nil {
		return err
	}
	s := setup.Setup{
		Answers: answers(c), Configs: c.StringSlice("config"), RootKeysHere: c.Bool("root-keys-here"), Force: c.Bool("force"),
		Settings: file, Program: program, NamedDir: configuration.Dir, InstalledUnits: "/usr/lib/systemd/system", Keys: keys, Out: stdout, Say: stderr,
		Passphrase: func(file string, fresh bool) ([]byte, error) { return newPassphrase(c, file, fresh) },
		CheckURL:   func(s string) error { _, err := parseURL(s); return err },
	}
	if ui.HasTerminal() {
		s.Line = ui.Line
	}
	if c.Bool("quiet") {
		s.Out = io.Discard
	}
	return s.Run(c.Context)
}

// answers returns the answers that the flags of init give.
func answers(c *cli.Context) setup.Answers {
	a := make(setup.Answers)
	for _, flag := range []string{"images-dir", "mirror-dir", "repository", "puavo-os", "sign-keys", "root-keys", "passphrase-file", "passphrase-credential", "timer", "units-dir"} {
		if value := c.String(flag); value != "" {
			a[flag] = value
		}
	}
	for _, flag := range []string{"keep-last", "keep-daily", "keep-weekly", "keep-monthly", "keep-yearly"} {
		if c.IsSet(flag) {
			a[flag] = strconv.Itoa(c.Int(flag))
		}
	}
	if files := c.StringSlice("config"); len(files) > 0 {
		a["config"] = files[0]
	}
	if url := os.Getenv(configuration.Others["repository"]); url != "" && a["repository"] == "" {
		a["repository"] = url
	}
	if c.Bool("no-signing") {
		a["sign-keys"] = setup.None
	}
	return a
}
