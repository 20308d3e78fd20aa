package main

import (
	"strings"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/meta"
)

const imageOne, imageTwo, imageThree = "os-2022-01-17-120001-amd64.img", "os-2022-01-20-173248-amd64.img", "os-2022-02-01-000000-amd64.img"

func imageNames(t *testing.T, files ...string) (all []meta.Name) {
	t.Helper()
	for _, f := range files {
		n, err := meta.ParseName(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, n)
	}
	return all
}

func TestHeldText(t *testing.T) {
	n := imageNames(t, imageOne, imageTwo, imageThree)
	when := time.Date(2022, 1, 21, 8, 30, 0, 0, time.Local)
	for _, c := range []struct {
		held client.Held
		want string
	}{
		{client.Held{Since: when, Image: n[0]}, "Updates are held at " + imageOne + " since 2022-01-21 08:30:00. Only unhold ends the hold.\n"},
		{client.Held{Since: when.UTC(), Image: n[0], From: n[1], Missed: n[1:2]}, "Updates are held at " + imageOne + " since 2022-01-21 08:30:00; " + imageTwo + " is not installed. An image newer than " + imageTwo + ", or unhold, ends the hold.\n"},
		{client.Held{Since: when, Image: n[0], Missed: n[1:]}, "Updates are held at " + imageOne + " since 2022-01-21 08:30:00; 2 newer images, up to " + imageThree + ", are not installed. Only unhold ends the hold.\n"},
		{client.Held{Image: n[0], Damage: "it is damaged; mend it"}, "Updates are held: it is damaged; mend it.\n"},
	} {
		if got := heldText(&c.held); got != c.want {
			t.Errorf("got %q\nwant %q", got, c.want)
		}
	}
}

// What is not known now is what the file has said of this directory.
func TestMetricsKeep(t *testing.T) {
	n := imageNames(t, imageOne, imageTwo)
	now := time.Unix(1700000000, 0)
	inUse := &client.Status{InUse: n[0]}
	held := &client.Status{InUse: n[0], Held: &client.Held{Since: time.Unix(1600000000, 0), Image: n[0]}}
	damaged := &client.Status{InUse: n[0], Held: &client.Held{Image: n[0], Damage: "x"}}
	success := &lastRun{begun: now.Add(-1500 * time.Millisecond), offered: n[1], fetched: 12}
	failure := &lastRun{begun: now, code: 3}
	format := func(dir string, status *client.Status, run *lastRun, old string) string {
		m := metrics{dir: dir, status: status, run: run}
		return string(m.format([]byte(old), now))
	}
	first := format("/a", held, success, "")
	for _, c := range []struct {
		name, got  string
		want, lack []string
	}{
		{"a success", first, []string{
			`image_in_use{images_dir="/a",image="` + imageOne + `"} 1`, `newest_offered{images_dir="/a",image="` + imageTwo + `"} 1`, `held{images_dir="/a"} 1`,
			`held_since_timestamp_seconds{images_dir="/a"} 1600000000`, `last_success_timestamp_seconds{images_dir="/a"} 1700000000`, `last_run_success{images_dir="/a"} 1`,
			`duration_seconds{images_dir="/a"} 1.5`, `fetched_bytes{images_dir="/a"} 12`, `last_exit_code{images_dir="/a"} 0`,
		}, []string{"last_error"}},
		{"a failure after it", format("/a", held, failure, first), []string{
			`newest_offered{images_dir="/a",image="` + imageTwo + `"} 1`, `last_success_timestamp_seconds{images_dir="/a"} 1700000000`, `last_error_timestamp_seconds{images_dir="/a"} 1700000000`,
			`last_run_success{images_dir="/a"} 0`, `last_exit_code{images_dir="/a"} 3`, `fetched_bytes{images_dir="/a"} 0`,
		}, nil},
		{"no status", format("/a", nil, nil, first), strings.Split(strings.TrimSpace(strings.ReplaceAll(first, "puavo_client_", "")), "\n")[2:3], nil},
		{"no hold any more", format("/a", inUse, nil, first), []string{`held{images_dir="/a"} 0`, `fetched_bytes{images_dir="/a"} 12`}, []string{"held_since"}},
		{"a damaged hold", format("/a", damaged, nil, first), []string{`held{images_dir="/a"} 1`}, []string{"held_since"}},
		{"another directory", format("/b", inUse, nil, first), []string{`image_in_use{images_dir="/b"`}, []string{`"/a"`, "last_success"}},
		{"a file cut short", format("/a", nil, nil, first[:len(first)-1]), nil, []string{"fetched_bytes"}},
		{"nothing known", format("/a", nil, failure, ""), []string{`last_error_timestamp_seconds{images_dir="/a"} 1700000000`}, []string{"in_use", "newest", "held", "last_success"}},
	} {
		for _, want := range c.want {
			if strings.Count(c.got, "\npuavo_client_"+strings.TrimPrefix(want, "puavo_client_")) != 1 {
				t.Errorf("%s: not once %s in\n%s", c.name, want, c.got)
			}
		}
		for _, lack := range c.lack {
			if strings.Contains(c.got, lack) {
				t.Errorf("%s: %s in\n%s", c.name, lack, c.got)
			}
		}
	}
	if again := format("/a", nil, nil, first); again != first {
		t.Errorf("with nothing new it becomes\n%s\nit was\n%s", again, first)
	}
}
