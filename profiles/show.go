package profiles

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"github.com/BurntSushi/toml"
)

// TOML returns the effective profile, with every key and value. Read from a file of the same name, the text is the same
// profile.
func (p Profile) TOML() ([]byte, error) {
	var b bytes.Buffer
	enc := toml.NewEncoder(&b)
	enc.Indent = ""
	if err := enc.Encode(p); err != nil {
		return nil, fmt.Errorf("encoding profile %s: %w", p.Name, err)
	}
	return []byte(escape(b.String())), nil // a % occurs in values only: no key has one
}

// Hash returns a fingerprint of everything that makes the box. When two hashes differ, the box must be made anew to
// match the profile. The hash ignores the file of the profile, what the image is built from, and the values of
// variables: a reader of the hash could guess short values. Hash is the SHA-256 of the profile's JSON, in hexadecimal.
func (p Profile) Hash() string {
	p = p.WithoutValues()
	p.File, p.Build = "", Build{}
	b, err := json.Marshal(p)
	if err != nil {
		b = []byte(err.Error()) // no valid profile has a number without a JSON form; the text still makes a fingerprint
	}
	return fmt.Sprintf("%x", sha256.Sum256(b))
}

// WithoutValues returns the profile with the names of the variables of systemd.environment, but without their values.
// Anyone may read the result, whoever may read the file.
func (p Profile) WithoutValues() Profile {
	names := make(map[string]string, len(p.Systemd.Environment))
	for name := range p.Systemd.Environment {
		names[name] = ""
	}
	p.Systemd.Environment = names
	return p
}
