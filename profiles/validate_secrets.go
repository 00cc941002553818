package profiles

import (
	"errors"
)

// SecretsDir is the directory of [secrets] in a box. Below /run, systemd would hide the secrets under a tmpfs.
const SecretsDir = "/etc/secrets"

// secretName refuses impossible names of secrets, which are names of files. TOML reads a.b as a table a with a key b.
func secretName(name string, value any) error {
	if _, ok := value.(map[string]any); ok {
		return errors.New("must be a path: a name with a dot in it is written in quotes, \"site.key\" = \"/path\"")
	}
	if !made(name, small+"_", ".-") || len(name) > 64 {
		return errors.New("must be named with a-z, 0-9, _, . and -, at most 64 of them, the first a letter, digit or _")
	}
	return nil
}

// checkSecretsDir refuses binds on SecretsDir or below.
func (p *Profile) checkSecretsDir(storage *section) {
	for i, b := range p.Storage.Binds {
		if len(p.Secrets) > 0 && below(b.Target, SecretsDir) {
			storage.refuse(at("binds", i), "the target must not be in %s, where the box has its [secrets]", SecretsDir)
		}
	}
}
