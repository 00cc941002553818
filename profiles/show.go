package profiles

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/BurntSushi/toml"
)

// TOML gives the effective profile, every key with its value: read as a file of the same name it is the same profile.
func (p Profile) TOML() ([]byte, error) {
	var b bytes.Buffer
	enc := toml.NewEncoder(&b)
	enc.Indent = ""
	if err := enc.Encode(p); err != nil {
		return nil, fmt.Errorf("encoding profile %s: %w", p.Name, err)
	}
	return []byte(escape(b.String())), nil // a % can stand in a value only: no key has one
}

// Hash gives a fingerprint of everything that makes the box: where two differ, the box must be made anew to be what the
// profile says. Where the profile was found does not count, nor what its image is built from, nor the values of variables:
// whoever reads the hash could try short ones. It is the SHA-256 of the profile's JSON, in hexadecimal.
func (p Profile) Hash() string {
	p = p.WithoutValues()
	p.File, p.Build = "", Build{}
	b, err := json.Marshal(p)
	if err != nil {
		b = []byte(err.Error()) // a number without a JSON form, which no valid profile has: still a fingerprint of its own
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// WithoutValues gives the profile for everyone to read, whoever may read its file: the variables of systemd.environment
// have their names and no values.
func (p Profile) WithoutValues() Profile {
	names := make(map[string]string, len(p.Systemd.Environment))
	for name := range p.Systemd.Environment {
		names[name] = ""
	}
	p.Systemd.Environment = names
	return p
}
