package launcher

import (
	"errors"
	"strings"
	"testing"

	"boxrun/launcher/box"
	"boxrun/launcher/conf"
	"boxrun/launcher/limits"
	"boxrun/launcher/testkit"
	"boxrun/profiles"
)

// The state has neither the values of variables nor anything to guess them by. A changed value shows only in the file
// readable by root alone.
func TestProfileChangesOfABox(t *testing.T) {
	at := func(env, ports string) profiles.Profile {
		p, err := profiles.Parse("/profiles/web.toml", []byte("image = '/web.sif'\nnetwork.ports = ["+ports+"]\n[systemd]\nenvironment = {"+env+"}\n"), "")
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	l := &Launcher{Store: &box.Store{Dir: t.TempDir(), Home: t.TempDir()}}
	b, err := l.New(at("TOKEN = 'secret', TZ = 'UTC'", "'80'"), "", 1500)
	if err != nil {
		t.Fatal(err)
	}
	told := conf.Dir{Systemd: true, Environment: map[string]string{"TOKEN": "secret", "TZ": "UTC"}}
	if err := errors.Join(l.Save(b), told.At(l.ConfDir(b.Name)).Write()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Load(b.Name); err != nil {
		t.Fatal(err)
	}
	for what, test := range map[string]struct {
		now  profiles.Profile
		want string
	}{
		"nothing":                   {at("TOKEN = 'secret', TZ = 'UTC'", "'80'"), ""},
		"a value":                   {at("TOKEN = 'other', TZ = 'UTC'", "'80'"), "systemd.environment: changed"},
		"a value and a key":         {at("TOKEN = 'other', TZ = 'UTC'", "'81'"), "network.ports: [\"80:80/tcp\"] -> [\"81:81/tcp\"]\nsystemd.environment: changed"},
		"a key":                     {at("TOKEN = 'secret', TZ = 'UTC', OTHER = '1'", "'80'"), "systemd.environment.OTHER: added"},
		"a name, and maybe a value": {at("TOKEN = 'other'", "'80'"), "systemd.environment.TZ: removed"},
	} {
		t.Run(what, func(t *testing.T) {
			changes, err := l.profileChanges(b, test.now)
			if err != nil {
				t.Fatal(err)
			}
			lines := make([]string, len(changes))
			for i, c := range changes {
				lines[i] = c.String()
			}
			testkit.WantText(t, strings.Join(lines, "\n"), test.want)
			if made := limits.MadeOf(l.Store, b, test.now); made != (test.want == "") {
				t.Errorf("made of it: got %v, want %v", made, !made)
			}
		})
	}
}
