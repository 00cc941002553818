package build

import (
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

// A recipe is what an image is built from: an Apptainer definition, and the files it takes from its directory.
type recipe struct {
	Definition string // as profiles have it: an absolute path, or "builtin:NAME"
}

func (r recipe) builtin() bool { return strings.HasPrefix(r.Definition, "builtin:") }

// fileName gives the definition's name in its directory.
func (r recipe) fileName() string {
	if name, ok := strings.CutPrefix(r.Definition, "builtin:"); ok {
		return name + ".def"
	}
	return filepath.Base(r.Definition)
}

// fingerprint gives a hash, in hexadecimal, of what goes into the image as far as it can be told without building: the
// definition's text, the files of the host that its %files sections name, and a local image that it begins with, by its
// identity. What a script of the definition fetches or reads is not seen, nor is a base image from a registry. Of a
// built-in recipe all files count. os.ErrNotExist where there is no definition. Between two files it looks whether ctx has
// ended: there may be many.
func (r recipe) fingerprint(ctx context.Context) (string, error) {
	sum := sha256.New()
	var err error
	if r.builtin() {
		err = r.sumBuiltin(sum)
	} else {
		err = sumDefinition(ctx, sum, r.Definition)
	}
	if err != nil {
		return "", fmt.Errorf("reading the definition: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func (r recipe) sumBuiltin(sum hash.Hash) error {
	files, err := profiles.Recipe(r.Definition)
	if err != nil {
		return err
	}
	return sumFS(sum, files)
}

// sumFS adds all files of a file system. Modes are made from contents, and say no more.
func sumFS(sum hash.Hash, files fs.FS) error {
	list, err := filesIn(files)
	for _, f := range list {
		fmt.Fprintf(sum, "%q %q\n", f.Path, f.Content)
	}
	return err
}

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

// maxDefinition bounds a definition in bytes: it is held in memory, and is a text that somebody has typed.
const maxDefinition = 16 << 20

// readDefinition gives the text of a definition file. What is no file, or too large for one, is an ErrInvalid.
func readDefinition(path string) ([]byte, error) {
	const hint = "name an Apptainer definition file"
	file, err := openRegular(path)
	if errors.Is(err, errNotRegular) {
		return nil, fault.Invalid(hint, "not a file: %q", path)
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxDefinition+1))
	if err == nil && len(text) > maxDefinition {
		return nil, fault.Invalid(hint, "over 16 MiB, too large for a definition: %q", path)
	}
	return text, err
}

// errNotRegular says that there is something else than a regular file.
var errNotRegular = errors.New("is not a regular file")

// openRegular opens a file for reading, where links lead to it. It never waits; what is no regular file is an errNotRegular.
func openRegular(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO would wait for somebody to write
	if err != nil {
		return nil, err
	}
	info, err := file.Stat() // of what is read, whatever takes its place meanwhile
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s %w", path, errNotRegular)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// in gives the path that Apptainer takes name for, when it runs in dir.
func in(dir, name string) string {
	if filepath.IsAbs(name) {
		return filepath.Clean(name)
	}
	return filepath.Join(dir, name)
}

// sumGlob adds the files that a name in %files stands for: those that match it, and all that is below them. That there are
// none is for the build to complain of.
func sumGlob(ctx context.Context, sum hash.Hash, pattern string) error {
	paths, err := filepath.Glob(pattern)
	if err != nil {
		paths = []string{pattern} // a [ in a name
	}
	for _, path := range paths {
		err := filepath.WalkDir(path, func(path string, _ fs.DirEntry, err error) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
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

// wholeFile bounds what is read of a file in %files: a larger one counts by its size and time.
const wholeFile = 64 << 20 // bytes

// sumFile adds one file, directory or link.
func sumFile(sum hash.Hash, path string) error {
	info, err := os.Stat(path) // as %files copies what a link leads to
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

// A word of a line in %files: quoted, or up to the next blank.
var filesWord = regexp.MustCompile(`"[^"]*"|'[^']*'|\S+`)

// hostFiles gives the sources of a definition's %files sections, but for those taken from another stage, as they are
// written.
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

// localImages gives the images of the host that a definition's stages begin with. Each stage begins with a Bootstrap line,
// and its header ends with the first section.
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

// unpack writes the files of a built-in recipe to dir.
func (r recipe) unpack(dir string) error {
	list, err := r.builtinFiles()
	if err != nil {
		return err
	}
	return fault.Wrap("unpacking the recipe", files.WriteAll(dir, list))
}

// builtinFiles gives the files of a built-in recipe, by path.
func (r recipe) builtinFiles() ([]files.File, error) {
	files, err := profiles.Recipe(r.Definition)
	if err != nil {
		return nil, err
	}
	return filesIn(files)
}

// filesIn gives all files of a file system, by path. What begins with #! can be run: modes are not kept in the binary.
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
