package awskeys_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"puavo-image-repository/imagerepo/internal/store/s3/awskeys"
)

const secret = "wJalrXUtnFEMIsecret"

// files lays out a home directory with the two files and returns it.
func files(t *testing.T, credentials, config string) string {
	t.Helper()
	home := t.TempDir()
	err := os.Mkdir(filepath.Join(home, ".aws"), 0o700)
	for name, text := range map[string]string{"credentials": credentials, "config": config} {
		if text != "" {
			err = errors.Join(err, os.WriteFile(filepath.Join(home, ".aws", name), []byte(text), 0o600))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return home
}

func section(name string, lines ...string) string {
	return "[" + name + "]\n" + strings.Join(lines, "\n") + "\n"
}

func TestFind(t *testing.T) {
	pair := func(id string) []string {
		return []string{"aws_access_key_id = " + id, "aws_secret_access_key=" + secret}
	}
	inEnv := map[string]string{"AWS_ACCESS_KEY_ID": "ENV", "AWS_SECRET_ACCESS_KEY": secret}
	with := func(more ...string) map[string]string {
		all := maps.Clone(inEnv)
		for i := 0; i < len(more); i += 2 {
			all[more[i]] = more[i+1]
		}
		return all
	}
	for _, c := range []struct {
		name                string
		env                 map[string]string
		credentials, config string
		want                awskeys.Keys // From: what it ends with
		err                 string
	}{
		{name: "environment", env: inEnv, want: awskeys.Keys{ID: "ENV", Secret: secret, From: "the environment"}},
		{name: "environment before files, region of a file", env: with("AWS_SESSION_TOKEN", "tok"),
			credentials: section("default", pair("FILE")...), config: section("default", "region = eu-north-1"),
			want: awskeys.Keys{ID: "ENV", Secret: secret, Token: "tok", Region: "eu-north-1", From: "the environment"}},
		{name: "region of the environment", env: with("AWS_REGION", "a", "AWS_DEFAULT_REGION", "b"), config: section("default", "region=c"),
			want: awskeys.Keys{ID: "ENV", Secret: secret, Region: "a", From: "the environment"}},
		{name: "default region", env: with("AWS_DEFAULT_REGION", "b"), want: awskeys.Keys{ID: "ENV", Secret: secret, Region: "b", From: "the environment"}},
		{name: "half the environment", env: map[string]string{"AWS_SECRET_ACCESS_KEY": secret}, err: "only one of AWS_ACCESS_KEY_ID"},
		{name: "a token alone", env: map[string]string{"AWS_SESSION_TOKEN": secret}, credentials: section("default", pair("FILE")...),
			want: awskeys.Keys{ID: "FILE", Secret: secret, From: "credentials [default]"}},
		{name: "credentials file", credentials: section("default", append(pair("FILE"), "aws_session_token = tok")...),
			want: awskeys.Keys{ID: "FILE", Secret: secret, Token: "tok", From: "credentials [default]"}},
		{name: "credentials before config", credentials: section("default", pair("FIRST")...), config: section("default", pair("SECOND")...),
			want: awskeys.Keys{ID: "FIRST", Secret: secret, From: "credentials [default]"}},
		{name: "config file", config: section("default", pair("SECOND")...), want: awskeys.Keys{ID: "SECOND", Secret: secret, From: "config [default]"}},
		{name: "profile", env: map[string]string{"AWS_PROFILE": "work"},
			credentials: section("default", pair("NO")...) + section("work", pair("WORK")...),
			config:      section("work", "region = wrong") + section("profile work", "region = right"),
			want:        awskeys.Keys{ID: "WORK", Secret: secret, Region: "right", From: "credentials [work]"}},
		{name: "quoted profile", env: map[string]string{"AWS_PROFILE": "at work"}, config: section(` profile  "at work" `, pair("WORK")...),
			want: awskeys.Keys{ID: "WORK", Secret: secret, From: "config [profile at work]"}},
		{name: "comments, nesting, case",
			credentials: "stray = 1\n# [default]\n[default] # mine\r\n;aws_access_key_id = A\nAWS_ACCESS_KEY_ID = B # c\ns3 =\n  aws_access_key_id = C\n\naws_secret_access_key = " + secret + "\t; d\n[next]\naws_access_key_id = D\n",
			want:        awskeys.Keys{ID: "B", Secret: secret, From: "credentials [default]"}},
		{name: "half a file", credentials: section("default", "aws_secret_access_key = "+secret), err: "only one of aws_access_key_id"},
		{name: "single sign-on", config: section("default", "sso_session = x"), err: "aws configure export-credentials"},
		{name: "process", config: section("default", "credential_process = x"), err: "credential_process are not supported"},
		{name: "nowhere", err: "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, "},
		{name: "no such profile", env: map[string]string{"AWS_PROFILE": "work"}, credentials: section("default", pair("NO")...), err: "config [profile work]"},
		{name: "too large", credentials: strings.Repeat("#", 1<<20+1), err: "reading access keys"},
	} {
		t.Run(c.name, func(t *testing.T) {
			home := files(t, c.credentials, c.config)
			env := func(name string) string {
				if name == "HOME" {
					return home
				}
				return c.env[name]
			}
			got, err := awskeys.Find(t.Context(), env)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), secret) {
					t.Fatalf("%v; want one with %q and no secret", err, c.err)
				}
				return
			}
			if from := got.From; strings.HasSuffix(from, c.want.From) {
				got.From = c.want.From
			}
			if err != nil || got != c.want {
				t.Fatalf("%+v, %v; want %+v", got, err, c.want)
			}
		})
	}
}

// Files elsewhere, an end, and which error is for keys that are nowhere.
func TestFindElsewhere(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "keys")
	if err := os.WriteFile(file, []byte(section("default", "aws_access_key_id=A", "aws_secret_access_key="+secret)), 0o600); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		variable string
		ctx      context.Context
		err      error
	}{
		{"AWS_SHARED_CREDENTIALS_FILE", t.Context(), nil},
		{"AWS_CONFIG_FILE", t.Context(), nil},
		{"AWS_OTHER_FILE", t.Context(), awskeys.ErrNone},
		{"AWS_CONFIG_FILE", ended, context.Canceled},
	} {
		env := map[string]string{"HOME": dir, c.variable: file}
		got, err := awskeys.Find(c.ctx, func(name string) string { return env[name] })
		if !errors.Is(err, c.err) || (err == nil) != (got.ID == "A") {
			t.Errorf("%s: %+v, %v; want %v", c.variable, got, err, c.err)
		}
	}
}

func FuzzFind(f *testing.F) {
	f.Add(section("default", "aws_access_key_id = A", "aws_secret_access_key = "+secret))
	f.Add("[profile \"x\"]\n=\n]\n[\n a=b")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		file := filepath.Join(dir, "keys")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		env := map[string]string{"AWS_SHARED_CREDENTIALS_FILE": file, "HOME": filepath.Join(dir, "none")}
		keys, err := awskeys.Find(t.Context(), func(name string) string { return env[name] })
		if (err == nil) != (keys.ID != "" && keys.Secret != "") {
			t.Fatalf("%+v, %v", keys, err)
		}
		if strings.ContainsAny(keys.ID+keys.Secret+keys.Token+keys.Region, "\r\n") {
			t.Fatalf("a line ends in %+v", keys)
		}
	})
}
