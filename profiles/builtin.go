package profiles

import (
	"embed"
	"fmt"
	"io/fs"
	"strings"
)

//go:embed builtin/*.toml
var builtins embed.FS

// builtinPrefix begins the File of a built-in profile, and the image that boxrun makes itself.
const builtinPrefix = "builtin:"

// builtinText gives the text of a built-in profile by its File, "builtin:NAME"; fs.ErrNotExist where there is none.
func builtinText(file string) ([]byte, error) {
	text, err := builtins.ReadFile("builtin/" + strings.TrimPrefix(file, builtinPrefix) + ".toml")
	if err != nil {
		return nil, fmt.Errorf("reading profile %s: %w", file, err)
	}
	return text, nil
}

// builtinFiles lists the built-in profiles, by name.
func builtinFiles() ([]string, error) {
	names, err := fs.Glob(builtins, "builtin/*.toml")
	if err != nil {
		return nil, fmt.Errorf("listing the built-in profiles: %w", err)
	}
	files := make([]string, len(names))
	for i, name := range names {
		files[i] = builtinPrefix + strings.TrimSuffix(strings.TrimPrefix(name, "builtin/"), ".toml")
	}
	return files, nil
}
