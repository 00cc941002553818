package main

import (
	"strings"
	"testing"

	"boxrun/launcher/files"
)

// What runs again under sudo names profiles by their files, and nothing else than profiles.
func TestUnderSudo(t *testing.T) {
	paths := map[string]string{"web": "/etc/boxrun/profiles/web.toml", "up": "/home/a b/up.toml"}
	for _, test := range []struct{ verb, args, want string }{
		{"up", "up web db --no-wait", "up /etc/boxrun/profiles/web.toml db --no-wait"},
		{"up", "up up", "up '/home/a b/up.toml'"},
		{"restart", "restart up", "restart '/home/a b/up.toml'"},
		{"host setup", "host setup --dry-run", "host setup --dry-run"},
	} {
		got := files.QuoteAll(underSudo("/usr/bin/boxrun", test.verb, strings.Fields(test.args), paths, nil))
		if want := "sudo -- /usr/bin/boxrun " + test.want; got != want {
			t.Errorf("boxrun %s:\ngot  %s\nwant %s", test.args, got, want)
		}
	}
	got := files.QuoteAll(underSudo("/usr/bin/boxrun", "exec", strings.Fields("exec web -- true"), nil, []string{"/home/a/p", "/home/b c"}))
	if want := "sudo -- /usr/bin/boxrun '--profiles=/home/a/p:/home/b c' exec web -- true"; got != want {
		t.Errorf("with directories:\ngot  %s\nwant %s", got, want)
	}
}
