package profiles

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

//go:embed builtin
var builtins embed.FS

// builtinPrefix begins the File of a built-in profile, and the name of the image that boxrun makes itself.
const builtinPrefix = "builtin:"

// builtinText returns the text of a built-in profile by its File, "builtin:NAME". A missing profile is an
// fs.ErrNotExist.
func builtinText(file string) ([]byte, error) {
	text, err := builtins.ReadFile("builtin/" + strings.TrimPrefix(file, builtinPrefix) + ".toml")
	if err != nil {
		return nil, fmt.Errorf("reading profile %s: %w", file, err)
	}
	return text, nil
}

// builtinFiles lists the built-in profiles, by name.
func builtinFiles() []string {
	files, _ := fs.Glob(builtins, "builtin/*.toml") // the only error is a mistake in the pattern
	for i, file := range files {
		files[i] = builtinPrefix + nameOf(file)
	}
	return files
}

// Recipe returns the files of a built-in recipe. definition is the recipe's name in profiles, "builtin:NAME". The
// definition file is NAME.def at the top.
func Recipe(definition string) (fs.FS, error) {
	name := strings.TrimPrefix(definition, builtinPrefix)
	dir := "builtin/" + name
	if !fs.ValidPath(dir) || strings.Contains(name, "/") {
		return nil, errors.New("must be builtin: and the name of a built-in recipe")
	}
	if _, err := fs.Stat(builtins, dir+"/"+name+".def"); err != nil {
		return nil, errors.New("must be a built-in recipe: there is none of that name")
	}
	return fs.Sub(builtins, dir)
}
