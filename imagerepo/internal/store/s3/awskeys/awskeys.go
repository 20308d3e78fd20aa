// Package awskeys finds the access keys for S3 where the tools of Amazon find them:
//
//  1. the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, if the keys are
//     temporary ones, AWS_SESSION_TOKEN
//  2. ~/.aws/credentials, or the file AWS_SHARED_CREDENTIALS_FILE
//  3. ~/.aws/config, or the file AWS_CONFIG_FILE
//
// In the files the section AWS_PROFILE counts, or "default". In the second file it is
// called "profile NAME", but for "default":
//
//	[default]
//	aws_access_key_id = AKIA…
//	aws_secret_access_key = …
//	aws_session_token = …
//	region = eu-north-1
//
// Both keys come from one place: the first that has one. The region comes from AWS_REGION,
// AWS_DEFAULT_REGION or the first file that has one. Indented lines, which belong to nested
// settings, other settings, and lines that are none are skipped. Sections that get their keys
// elsewhere (a role, single sign-on, a process) are not followed: the error says so.
//
// No error has a key in it.
package awskeys

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"puavo-image-repository/meta/untrusted"
)

// Keys are access keys, and what is configured next to them.
type Keys struct {
	ID, Secret string
	Token      string // of temporary keys, or ""
	Region     string // or ""
	From       string // where the keys were found, for messages
}

// ErrNone is wrapped by the error for keys that are nowhere.
var ErrNone = errors.New("no access keys for S3")

// maxFile is how many bytes of a file are read.
const maxFile = 1 << 20

// Find finds keys. env returns a variable of the environment, as os.Getenv does.
func Find(ctx context.Context, env func(string) string) (Keys, error) {
	keys := Keys{
		ID: env("AWS_ACCESS_KEY_ID"), Secret: env("AWS_SECRET_ACCESS_KEY"), Token: env("AWS_SESSION_TOKEN"),
		Region: either(env("AWS_REGION"), env("AWS_DEFAULT_REGION")),
		From:   "the environment",
	}
	if (keys.ID == "") != (keys.Secret == "") {
		return Keys{}, errors.New("only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set; set both, or none to use a file")
	}
	if keys.ID == "" {
		keys = Keys{Region: keys.Region} // a token is of no use without its keys
	}
	places := placesOf(env)
	for _, place := range places {
		settings, err := place.read(ctx)
		if err != nil {
			return Keys{}, err
		}
		keys.Region = either(keys.Region, settings["region"])
		if keys.ID != "" {
			continue
		}
		if err := keys.take(settings, place); err != nil {
			return Keys{}, err
		}
	}
	if keys.ID == "" {
		return Keys{}, none(places)
	}
	return keys, nil
}

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// take takes the keys of a section, if it has any.
func (k *Keys) take(settings map[string]string, from place) error {
	id, secret := settings["aws_access_key_id"], settings["aws_secret_access_key"]
	if (id == "") != (secret == "") {
		return fmt.Errorf("%s: only one of aws_access_key_id and aws_secret_access_key is set; set both", from)
	}
	if id != "" {
		k.ID, k.Secret, k.Token, k.From = id, secret, settings["aws_session_token"], from.String()
		return nil
	}
	for _, elsewhere := range []string{"credential_process", "role_arn", "sso_session", "sso_start_url", "login_session"} {
		if settings[elsewhere] != "" {
			return fmt.Errorf("%s: keys by %s are not supported; put them into the environment: "+
				`eval "$(aws configure export-credentials --format env)"`, from, elsewhere)
		}
	}
	return nil
}

// none returns the error that says where was looked.
func none(places []place) error {
	looked := []string{"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment"}
	for _, p := range places {
		looked = append(looked, p.String())
	}
	return fmt.Errorf("%w in any of these places: %s; put them into one", ErrNone, strings.Join(looked, ", "))
}

// A place is a section of a file.
type place struct{ file, section string }

func (p place) String() string {
	return fmt.Sprintf("%s [%s]", untrusted.Show(p.file), untrusted.Show(p.section))
}

// placesOf returns the sections that are read, the first that counts first.
func placesOf(env func(string) string) []place {
	profile := either(env("AWS_PROFILE"), "default")
	home := filepath.Join(env("HOME"), ".aws")
	inConfig := "profile " + profile
	if profile == "default" {
		inConfig = profile
	}
	return []place{
		{either(env("AWS_SHARED_CREDENTIALS_FILE"), filepath.Join(home, "credentials")), profile},
		{either(env("AWS_CONFIG_FILE"), filepath.Join(home, "config")), inConfig},
	}
}

// read returns the settings of a section. A file that is missing has none.
func (p place) read(ctx context.Context) (map[string]string, error) {
	text, err := untrusted.ReadFile(ctx, p.file, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("reading access keys: %w", err)
	}
	return section(string(text), p.section), nil
}

// section returns the settings of a section, their names in lower case.
func section(text, name string) map[string]string {
	settings := make(map[string]string)
	inside := false
	for line := range strings.Lines(text) {
		if header, ok := headerOf(line); ok {
			inside = header == name
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !inside || !ok || strings.ContainsAny(line[:1], " \t#;") {
			continue
		}
		settings[strings.ToLower(strings.TrimSpace(key))] = valueOf(value)
	}
	return settings
}

// headerOf returns the name of the section that a line begins, if it does.
func headerOf(line string) (string, bool) {
	inner, ok := strings.CutPrefix(strings.TrimSpace(line), "[")
	if !ok {
		return "", false
	}
	inner, _, ok = strings.Cut(inner, "]")
	if !ok {
		return "", false
	}
	words := strings.Fields(inner)
	if len(words) > 1 && words[0] == "profile" {
		words[1] = strings.TrimPrefix(words[1], `"`)
		last := len(words) - 1
		words[last] = strings.TrimSuffix(words[last], `"`)
	}
	return strings.Join(words, " "), true
}

// valueOf returns a value without the comment after it.
func valueOf(text string) string {
	for _, comment := range []string{" #", " ;", "\t#", "\t;"} {
		text, _, _ = strings.Cut(text, comment)
	}
	return strings.TrimSpace(text)
}
