package profiles

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/BurntSushi/toml"
)

// Parse turns the text of a file into a valid profile. The base name of file, with the instance unless empty, is the
// name of the box. Relative paths in the text begin in the directory of file as named, without following symbolic
// links; for a built-in profile in the current directory. Parse reads no files.
//
// Mistakes in the profile are returned as Errors: all of them, in the order of the file.
func Parse(file string, text []byte, instance string) (Profile, error) {
	abs, err := absolute(file)
	if err != nil {
		return Profile{}, err
	}
	d := &document{file: file, dir: filepath.Dir(abs), instance: instance, failed: map[string]bool{}}
	raw := map[string]any{}
	lines := strings.ReplaceAll(string(text), "\r\n", "\n") // TOML allows \r\n, and no value needs a \r
	if _, err := toml.Decode(lines, &raw); err != nil {
		return Profile{}, syntaxError(file, lines, err)
	}
	d.spots = locate(lines)

	p := Default()
	p.File = abs
	p.Name = d.boxName(abs)
	p.decode(d, raw)
	p.fillNamed()
	d.refuseUnknown()
	if len(d.found) > 0 {
		return Profile{}, d.errors()
	}
	return p, nil
}

// absolute returns the absolute path of file. A built-in profile keeps its name.
func absolute(file string) (string, error) {
	if strings.HasPrefix(file, builtinPrefix) {
		return file, nil
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		return "", fmt.Errorf("finding the directory of %s: %w", file, err)
	}
	return abs, nil
}

// syntaxError turns an error of the toml library into Errors.
func syntaxError(file, text string, err error) error {
	var parse toml.ParseError
	if !errors.As(err, &parse) {
		return fmt.Errorf("decoding %s: %w", file, err)
	}
	// In some messages the library shows the end of the file as a zero byte.
	message := strings.TrimSuffix(strings.Join(strings.FieldsFunc(parse.Message, unicode.IsControl), ""), ".")
	if rest, ok := strings.CutPrefix(message, "Key "); ok {
		message = "key " + rest
	}
	switch { // slips with quotes, of which the library tells no more than the first wrong character
	case strings.HasPrefix(message, "expected value but found"):
		message += ": text stands in quotes"
	case message == "strings cannot contain newlines":
		message += ": a quote is missing at the end of a text"
	}
	line := parse.Position.Line
	if strings.HasSuffix(message, `'\n' instead`) { // the library has counted the offending newline
		line = 1 + strings.Count(text[:min(parse.Position.Start, len(text))], "\n")
	}
	return Errors{{File: file, Line: max(1, line), Message: message}}
}

// decode reads every table of the format.
func (p *Profile) decode(d *document, raw map[string]any) {
	top := d.section("", raw)
	p.decodeTop(top)
	p.Network.decode(top.table("network"))
	storage := top.table("storage")
	p.Storage.decode(storage)
	p.Systemd.decode(top.table("systemd"))
	p.Resources.decode(top.table("resources"))
	p.Security.decode(top.table("security"))
	p.Ready.decode(top.table("ready"), p.Systemd.Mask, p.Network.Mode)
	p.Health.decode(top.table("health"))
	take(top, "secrets", &p.Secrets, entries(secretName, text(d.path))) // the launcher checks the files at the start
	p.checkSecretsDir(storage)
	p.Build.decode(top.table("build"), p.Image)
	p.Apptainer.decode(top.table("apptainer"), p.Resources.Limited(), p.Security.Confined())
	p.Hooks.decode(top.table("hooks"))
}
