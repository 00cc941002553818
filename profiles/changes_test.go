package profiles

import (
	"strings"
	"testing"
)

func TestChanges(t *testing.T) {
	const base = "image = '/srv/web.sif'\n"
	for what, test := range map[string]struct{ old, now, want string }{
		"nothing":                    {"", "", ""},
		"a default written out":      {"", "hostname = 'web'\n[network]\nports = []\n", ""},
		"where the image comes from": {"", "[build]\ndefinition = 'web.def'\n", ""},
		"values of all kinds, in the order of the format": {
			"[network]\nports = ['80']\n[storage]\nbinds = ['/a:/b']\n",
			"description = 'new'\n[systemd]\nstop_timeout = '2m30s'\n[network]\nports = ['80', '8443:443']\nmtu = 1400\n[ready]\nhint = \"two\\nlines\"\n",
			`description: "" -> "new"
network.mtu: 0 -> 1400
network.ports: ["80:80/tcp"] -> ["80:80/tcp", "8443:443/tcp"]
storage.binds: ["/a:/b:rw"] -> []
systemd.stop_timeout: "2m0s" -> "2m30s"
ready.hint: "" -> "two\nlines"`,
		},
		"variables, by name alone": {
			"[systemd]\nenvironment = { GONE = 'token1', SAME = 'token2', OTHER = 'token3' }\n",
			"[systemd]\nenvironment = { NEW = 'token4', SAME = 'token2', OTHER = 'token5' }\n",
			"systemd.environment.GONE: removed\nsystemd.environment.NEW: added",
		},
	} {
		t.Run(what, func(t *testing.T) {
			changes, err := Changes(parsed(t, base+test.old), parsed(t, base+test.now))
			if err != nil {
				t.Fatal(err)
			}
			lines := make([]string, len(changes))
			for i, c := range changes {
				lines[i] = c.String()
			}
			if got := strings.Join(lines, "\n"); got != test.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, test.want)
			}
		})
	}
}

func TestChangedSecretsAreNamedAlone(t *testing.T) {
	old, now := Default(), Default()
	old.Secrets = map[string]string{"gone": "/etc/a", "moved": "/etc/b", "same": "/etc/c"}
	now.Secrets = map[string]string{"moved": "/etc/d", "same": "/etc/c", "new": "/etc/e"}
	changes, err := Changes(old, now)
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, c := range changes {
		got += c.String() + "\n"
	}
	if want := "secrets.gone: removed\nsecrets.moved: changed\nsecrets.new: added\n"; got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func parsed(t *testing.T, text string) Profile {
	t.Helper()
	p, err := Parse("/profiles/web.toml", []byte(text), "")
	if err != nil {
		t.Fatal(err)
	}
	return p
}
