package build

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/profiles"
)

// A recipe is the source of an image: an Apptainer definition, and the files used from the definition's directory.
type recipe struct {
	Definition string // as in profiles: an absolute path, or "builtin:NAME"
}

func (r recipe) builtin() bool { return strings.HasPrefix(r.Definition, "builtin:") }

// fileName returns the definition's name in its directory.
func (r recipe) fileName() string {
	if name, ok := strings.CutPrefix(r.Definition, "builtin:"); ok {
		return name + ".def"
	}
	return filepath.Base(r.Definition)
}

// fingerprint returns a hash, in hexadecimal, of the image's content as far as known without building: the definition's
// text, the host files named in %files sections, and the identity of a local base image. For a built-in recipe all
// files count. Files fetched or read by a script of the definition, and a base image from a registry, do not count.
//
// The error is os.ErrNotExist if the definition is missing. Between two files fingerprint checks whether ctx has ended,
// because there may be many files.
func (r recipe) fingerprint(ctx context.Context) (string, error) {
	sum := sha256.New()
	list, err := r.files()
	sumFiles(sum, list)
	if !r.builtin() {
		err = sumDefinition(ctx, sum, r.Definition)
	}
	if err != nil {
		return "", fmt.Errorf("reading the definition: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// sumFiles adds the paths and contents of files to sum. Modes depend on contents (see filesIn), and would add nothing.
func sumFiles(sum hash.Hash, list []files.File) {
	for _, f := range list {
		fmt.Fprintf(sum, "%q %q\n", f.Path, f.Content)
	}
}

// sumDefinition adds a definition's text, its host files, and the identities of its local base images. A missing base
// image is no error here.
func sumDefinition(ctx context.Context, sum hash.Hash, path string) error {
	text, err := readDefinition(path)
	if err != nil {
		return err
	}
	fmt.Fprintf(sum, "%q\n", text)
	dir := filepath.Dir(path)
	for _, source := range hostFiles(string(text)) {
		if err := sumGlob(ctx, sum, in(dir, source)); err != nil {
			return err
		}
	}
	for _, base := range localImages(string(text)) {
		id, err := box.Identify(in(dir, base))
		if err := files.IgnoreNotExist(err); err != nil {
			return err
		}
		fmt.Fprintf(sum, "%q %s\n", base, id)
	}
	return nil
}

// maxDefinition limits the size of a definition, in bytes. A definition is held in memory, and was typed by a person.
const maxDefinition = 16 << 20

// readDefinition returns the text of a definition file. The error is ErrInvalid if path is not a regular file, or too
// large.
func readDefinition(path string) ([]byte, error) {
	const hint = "name an Apptainer definition file"
	text, err := readRegular(path, maxDefinition+1)
	switch {
	case errors.Is(err, errNotRegular):
		return nil, fault.Invalid(hint, "not a file: %q", path)
	case err == nil && len(text) > maxDefinition:
		return nil, fault.Invalid(hint, "over 16 MiB, too large for a definition: %q", path)
	}
	return text, err
}

// errNotRegular is the error for a path to something other than a regular file.
var errNotRegular = errors.New("is not a regular file")

// readRegular reads a file, following links: the whole file, or the first most bytes. It never blocks. The error is
// errNotRegular for anything but a regular file.
func readRegular(path string, most int64) ([]byte, error) {
	file, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, most))
}

// openRegular opens a file as readRegular does.
func openRegular(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO would wait for a writer
	if err != nil {
		return nil, err
	}
	info, err := file.Stat() // of the open file, whatever takes its path meanwhile
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s %w", path, errNotRegular)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// in returns the path Apptainer opens for name when running in dir.
func in(dir, name string) string {
	if filepath.IsAbs(name) {
		return filepath.Clean(name)
	}
	return filepath.Join(dir, name)
}

// sumGlob adds the files for a name in %files: every match, and everything below a match. The absence of matches is
// left for the build to complain about.
func sumGlob(ctx context.Context, sum hash.Hash, pattern string) error {
	paths, err := filepath.Glob(pattern)
	if err != nil {
		paths = []string{pattern} // a name with a plain [
	}
	for _, path := range paths {
		err := filepath.WalkDir(path, func(path string, _ fs.DirEntry, err error) error {
			if err := cmp.Or(ctx.Err(), err); err != nil {
				return err
			}
			return sumFile(sum, path)
		})
		if files.IgnoreNotExist(err) != nil {
			return err
		}
	}
	return nil
}

// wholeFile limits how much of a file in %files is hashed. A larger file counts by size and modification time.
const wholeFile = 64 << 20 // bytes

// sumFile adds a file, directory or link.
func sumFile(sum hash.Hash, path string) error {
	info, err := os.Stat(path) // %files copies the target of a link
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(sum, "%q leads nowhere\n", path)
		return nil
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(sum, "%q %v\n", path, info.Mode())
	switch {
	case !info.Mode().IsRegular():
		return nil
	case info.Size() > wholeFile:
		fmt.Fprintf(sum, "%d %d\n", info.Size(), info.ModTime().UnixNano())
		return nil
	}
	return sumContent(sum, path)
}

// sumContent adds the content of a file.
func sumContent(sum hash.Hash, path string) error {
	file, err := openRegular(path)
	if err != nil {
		return err
	}
	defer file.Close()
	content := sha256.New()
	if _, err := io.Copy(content, file); err != nil {
		return err
	}
	fmt.Fprintf(sum, "%x\n", content.Sum(nil))
	return nil
}

// filesWord matches a word of a line in %files: quoted, or up to the next blank.
var filesWord = regexp.MustCompile(`"[^"]*"|'[^']*'|\S+`)

// hostFiles returns the sources in a definition's %files sections, as written. Sections with sources from another stage
// are left out.
func hostFiles(definition string) []string {
	var sources []string
	inside := false
	for line := range strings.Lines(definition) {
		line = strings.TrimSpace(line)
		words := filesWord.FindAllString(line, -1)
		switch {
		case len(words) == 0 || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "%"):
			inside = strings.EqualFold(words[0], "%files") && !slices.Contains(words, "from")
		case inside:
			sources = append(sources, strings.Trim(words[0], `"'`))
		}
	}
	return sources
}

// localImages returns the host's images used as a base by a definition's stages. Each stage begins with a Bootstrap
// line, and the stage's header ends with the first section.
func localImages(definition string) []string {
	var images []string
	local := false
	for line := range strings.Lines(definition) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch key = strings.ToLower(strings.TrimSpace(key)); {
		case strings.HasPrefix(key, "%"):
			local = false
		case key == "bootstrap":
			local = strings.EqualFold(value, "localimage")
		case key == "from" && local && value != "":
			images = append(images, value)
		}
	}
	return images
}

// files returns the files of a built-in recipe, by path; none for a definition on the host.
func (r recipe) files() ([]files.File, error) {
	if !r.builtin() {
		return nil, nil
	}
	tree, err := profiles.Recipe(r.Definition)
	if err != nil {
		return nil, err
	}
	return filesIn(tree)
}

// unpacked returns the files of a recipe in dir, each after its directory.
func unpacked(dir string, recipe []files.File) files.Set {
	set := files.Set{Doing: "unpacking the recipe"}
	for _, f := range files.In(dir, recipe) {
		set.Files = append(set.Files, files.Dir(filepath.Dir(f.Path)), f)
	}
	return set
}

// filesIn returns all files of a file system, by path. A file beginning with #! is executable: modes are not kept in
// the binary.
func filesIn(tree fs.FS) ([]files.File, error) {
	var list []files.File
	err := fs.WalkDir(tree, ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := fs.ReadFile(tree, path)
		mode := fs.FileMode(0o644)
		if strings.HasPrefix(string(text), "#!") {
			mode = 0o755
		}
		list = append(list, files.File{Path: path, Content: string(text), Mode: mode})
		return err
	})
	return list, err
}
