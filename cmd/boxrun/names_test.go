package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"boxrun/profiles"
)

// Who can write above a secret can put another of root's files in its place. Of the file itself the launcher says more.
func TestSecretsThatOthersCouldReplace(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err == nil {
		err = errors.Join(os.Chmod(root, 0o700), os.Mkdir(root+"/open", 0o700), os.Chmod(root+"/open", 0o777),
			os.WriteFile(root+"/open/pw", nil, 0o600), os.WriteFile(root+"/pw", nil, 0o600), os.Chmod(root+"/pw", 0o622),
			os.Symlink("open/pw", root+"/link"))
	}
	if err != nil {
		t.Fatal(err)
	}
	trusted := func(file string) error { return profiles.Trusted(file, os.Getuid()) }
	const open = "web.toml: secrets.key: not using FILE as root: ROOT/open is writable for everybody"
	for file, want := range map[string]string{"open/pw": open, "link": open, "pw": "", "absent": ""} {
		file = filepath.Join(root, file)
		got := ""
		if err := trustSecrets(profiles.Profile{File: "web.toml", Secrets: map[string]string{"key": file}}, trusted); err != nil {
			got = err.Error()
		}
		if want = strings.NewReplacer("FILE", file, "ROOT", root).Replace(want); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
