package main

import (
	"strings"
	"testing"

	"boxrun/launcher/files"
)

// What runs again under sudo names profiles by their files, and nothing else than profiles.
func TestUnderSudo(t *testing.T) {
	paths := map[string]string{"web": "/etc/boxrun/profiles/web.toml", "up": "/home/a b/up.toml"}
	for args, want := range map[string]string{
		"up web db --no-wait":         "up /etc/boxrun/profiles/web.toml db --no-wait",
		"up up":                       "up '/home/a b/up.toml'",
		"restart up":                  "restart '/home/a b/up.toml'",
		"host setup --dry-run":        "host setup --dry-run",
		"exec -u web web -- ls web":   "exec -u web /etc/boxrun/profiles/web.toml -- ls web",
		"exec --user=up -it up up":    "exec --user=up -it '/home/a b/up.toml' up",
		"--state-dir web down -t9 up": "--state-dir web down -t9 '/home/a b/up.toml'",
		"down -t 9s -- web":           "down -t 9s -- /etc/boxrun/profiles/web.toml",
	} {
		words := strings.Fields(args)
		cmd, _, err := rootCommand().Find(words)
		if err != nil {
			t.Fatal(err)
		}
		_ = cmd.ParseFlags(words) // as cobra does first: only then cmd has the flags of all verbs
		got := files.QuoteAll(underSudo("/usr/bin/boxrun", words, operands(cmd, words), paths, nil))
		if want := "sudo -- /usr/bin/boxrun " + want; got != want {
			t.Errorf("boxrun %s:\ngot  %s\nwant %s", args, got, want)
		}
	}
	got := files.QuoteAll(underSudo("/usr/bin/boxrun", strings.Fields("exec web -- true"), nil, nil, []string{"/home/a/p", "/home/b c"}))
	if want := "sudo -- /usr/bin/boxrun '--profiles=/home/a/p:/home/b c' exec web -- true"; got != want {
		t.Errorf("with directories:\ngot  %s\nwant %s", got, want)
	}
}
