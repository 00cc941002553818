package profiles

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/BurntSushi/toml"
)

// ErrNotFound says that no profile has the requested name.
var ErrNotFound = errors.New("no such profile")

// here is the current directory in Search.Dirs.
const here = "."

// Search says where to look for profiles by name.
type Search struct {
	Dirs []string // first hit wins; the built-in profiles come last

	// Box returns the profile that the box called name was started from; ok is false without such a box. Find asks Box
	// first, so that a file of the same name takes over no box. Box is nil where boxes are not asked.
	Box func(name string) (Ref, bool)

	// Boxes returns the names of boxes, to guess at a name that was mistyped; nil where boxes are not asked.
	Boxes func() []string

	FilesFirst bool // Find asks Box only for names without a profile
}

// FromEnvironment returns the search path of a person, in this order: the current directory, the directories of
// $BOXRUN_PROFILES (separated by colons), boxrun's directory in $XDG_CONFIG_HOME or ~/.config, and the host's
// directories.
func FromEnvironment() Search {
	named := filepath.SplitList(os.Getenv("BOXRUN_PROFILES"))
	dirs := append([]string{here}, slices.DeleteFunc(named, func(dir string) bool { return dir == "" })...)
	if config, err := os.UserConfigDir(); err == nil { // without a home there is no such directory
		dirs = append(dirs, filepath.Join(config, "boxrun", "profiles"))
	}
	return Search{Dirs: append(dirs, OfHost().Dirs...)}
}

// With returns a search that also looks into dirs: after the current directory, before all other directories.
func (s Search) With(dirs []string) Search {
	s.Dirs = slices.Insert(slices.Clone(s.Dirs), slices.Index(s.Dirs, here)+1, dirs...)
	return s
}

// Kept returns the existing directories in which a person keeps profiles, as absolute paths. The current directory and
// the host's are left out.
func (s Search) Kept() []string {
	var kept []string
	for _, dir := range s.Dirs {
		info, err := os.Stat(dir)
		if err != nil || !info.IsDir() || dir == here || slices.Contains(OfHost().Dirs, dir) {
			continue
		}
		if abs, err := filepath.Abs(dir); err == nil {
			kept = append(kept, abs)
		}
	}
	return kept
}

// OfHost returns a search of the host's own directories. Only profiles from there, and built-in profiles, may be
// started at boot.
func OfHost() Search {
	return Search{Dirs: []string{"/etc/boxrun/profiles", "/usr/share/boxrun/profiles"}}
}

// A Ref names a profile: a file, and the instance to start.
type Ref struct {
	File     string // a path, or "builtin:NAME"
	Instance string // "" for none
}

// String returns FILE or FILE@INSTANCE. Find finds the profile again by this word from any directory, if File is
// absolute or built in.
func (r Ref) String() string {
	if r.Instance == "" {
		return r.File
	}
	return r.File + "@" + r.Instance
}

// word returns the name a person uses for the profile: NAME or NAME@INSTANCE.
func (r Ref) word() string { return Ref{nameOf(r.File), r.Instance}.String() }

// box returns the name of the profile's box: NAME or NAME-INSTANCE.
func (r Ref) box() string {
	if r.Instance == "" {
		return nameOf(r.File)
	}
	return nameOf(r.File) + "-" + r.Instance
}

// Ref returns the file and the instance the profile was read from.
func (p Profile) Ref() Ref {
	return Ref{File: p.File, Instance: strings.TrimPrefix(strings.TrimPrefix(p.Name, nameOf(p.File)), "-")}
}

// Word returns the name a person uses for the profile: NAME or NAME@INSTANCE.
func (p Profile) Word() string { return p.Ref().word() }

// Find looks for the profile that a person named by arg: a path (with a slash or ending in .toml), "builtin:NAME", or a
// name on the search path. Each form may end in @INSTANCE. A path is returned as given, even if there is no such file.
// A name of a box, such as a box started as an instance or from a path, means the profile of its start, as s.Box returns
// it: with FilesFirst after the search path, else before, if the file is still there. A built-in profile of a box comes
// before the current directory alone: whoever puts a file of the name where profiles are kept means to replace it. A name
// found nowhere is an ErrNotFound. A directory that cannot be searched is an error too.
func (s Search) Find(arg string) (Ref, error) {
	ref, err := parseRef(arg)
	name := ref.File
	if err == nil && IsImage(name) && (strings.Contains(name, "://") || !strings.Contains(name, "/")) {
		return Ref{}, &ImageError{arg}
	}
	if err != nil || strings.HasPrefix(name, builtinPrefix) || strings.Contains(name, "/") ||
		strings.HasSuffix(name, ".toml") {
		return ref, err
	}
	if started, ok := s.started(ref); ok && !s.FilesFirst {
		if !strings.HasPrefix(started.File, builtinPrefix) {
			return started, nil
		}
		s.Dirs = slices.DeleteFunc(slices.Clone(s.Dirs), func(dir string) bool { return dir == here })
	}
	for _, dir := range s.Dirs {
		ref.File = filepath.Join(dir, name+".toml")
		_, err := os.Stat(ref.File)
		if err == nil && name != "" {
			return ref, nil
		}
		if err != nil && !absent(dir, err) {
			return Ref{}, fmt.Errorf("looking for profile %q: %w", name, err)
		}
	}
	ref.File = builtinPrefix + name
	if _, err := builtinText(ref.File); err == nil {
		return ref, nil
	}
	if s.Box != nil && ref.Instance == "" {
		if ref, ok := s.Box(name); ok {
			return ref, nil
		}
	}
	return Ref{}, fmt.Errorf("%w: %q%s", ErrNotFound, name, s.DidYouMean(name))
}

// Hidden returns the profile of the same name that Find would give without file; "" for none.
func (s Search) Hidden(file string) string {
	at := slices.IndexFunc(s.Dirs, func(dir string) bool {
		path, err := absolute(filepath.Join(dir, filepath.Base(file)))
		return err == nil && path == file
	})
	if at < 0 {
		return ""
	}
	s.Box, s.Dirs = nil, s.Dirs[at+1:]
	ref, _ := s.Find(nameOf(file)) // nothing is found where there is an error
	return ref.File
}

// started returns the profile from which the box of ref was started; false without such a box, or where the file is gone.
func (s Search) started(ref Ref) (Ref, bool) {
	if s.Box == nil {
		return Ref{}, false
	}
	from, ok := s.Box(ref.box())
	if !ok || strings.HasPrefix(from.File, builtinPrefix) {
		return from, ok
	}
	_, err := os.Stat(from.File)
	return from, !errors.Is(err, fs.ErrNotExist)
}

// Other returns the file that arg would name were there no box of this name; "" where Find finds the same file, and where
// arg names a file.
func (s Search) Other(arg string) string {
	ref, err := s.Find(arg)
	s.Box = nil
	other, otherErr := s.Find(arg)
	if err != nil || otherErr != nil || other.File == ref.File {
		return ""
	}
	if file, err := absolute(other.File); err != nil || file != ref.File {
		return other.File
	}
	return ""
}

// absent reports whether err means that dir has no profiles. The current directory may be unreadable, as under "sudo
// -u", and then counts as a directory without profiles.
func absent(dir string, err error) bool {
	return errors.Is(err, fs.ErrNotExist) || dir == here && errors.Is(err, fs.ErrPermission)
}

// parseRef splits NAME@INSTANCE. An @ in the name of a directory, or in a path ending in .toml, separates nothing.
func parseRef(arg string) (Ref, error) {
	i := strings.LastIndexByte(arg, '@')
	if i < 0 || strings.Contains(arg[i:], "/") || strings.HasSuffix(arg, ".toml") {
		return Ref{File: arg}, nil
	}
	if err := CheckName(arg[i+1:]); err != nil {
		return Ref{}, Errors{{File: arg, Message: fmt.Sprintf("the instance %v, got %q", err, arg[i+1:])}}
	}
	return Ref{arg[:i], arg[i+1:]}, nil
}

// Word returns the short form, NAME or NAME@INSTANCE, of an arg that Find takes. The profile need not exist.
func Word(arg string) string {
	ref, err := parseRef(arg)
	if err != nil {
		return nameOf(arg) // no profile has such a word
	}
	return ref.word()
}

// BoxName returns the name of the box for an arg that Find takes. The profile need not exist.
func BoxName(arg string) string {
	ref, err := parseRef(arg)
	if err != nil {
		return arg // no box has such a name
	}
	return ref.box()
}

// DidYouMean guesses what was meant by name, among names and the profiles, and returns text to append to an error. The
// text is "" where nothing is near, or where a profile has exactly this name. Between equally near words, names win
// over profiles.
func (s Search) DidYouMean(name string, names ...string) string {
	if s.Boxes != nil {
		names = append(names, s.Boxes()...)
	}
	found, _ := s.List() // profiles that cannot be listed cannot be suggested
	for _, f := range found {
		if f.Name == name {
			return ""
		}
		names = append(names, f.Name)
	}
	if near := nearest(name, names); near != "" {
		return fmt.Sprintf(", did you mean %q?", near)
	}
	return ""
}

// Knows reports whether a profile on the search path has a box of this name, be it as an instance. The word is NAME@INSTANCE
// for the box of a template, and "" for any other box.
func (s Search) Knows(box string) (word string, known bool) {
	found, _ := s.List() // profiles that cannot be listed are not known
	for _, f := range found {
		known = known || f.Name == box || strings.HasPrefix(box, f.Name+"-")
		if word = f.instance(box); word != "" {
			return word, true
		}
	}
	return "", known
}

// instance returns the word for a box of the template, as a person names it; "" for other boxes and other profiles.
func (f Found) instance(box string) string {
	name, template := strings.CutSuffix(f.Name, "@")
	instance, of := strings.CutPrefix(box, name+"-")
	if !template || !of || CheckName(instance) != nil {
		return ""
	}
	return f.Name + instance
}

// Called returns how a person is to name a profile that was read: the word of the profile if Find finds the same file
// by the word, else the file.
func (s Search) Called(p Profile) string {
	word := p.Word()
	if ref, err := s.Find(word); err == nil {
		if file, err := absolute(ref.File); err == nil && file == p.File {
			return word
		}
	}
	return p.Ref().String()
}

// Load finds, reads and checks the profile that a person named. See Find and Read for the errors.
func (s Search) Load(arg string) (Profile, error) {
	ref, err := s.Find(arg)
	if err != nil {
		return Profile{}, err
	}
	p, err := ref.Read()
	if word := ref.word(); errors.Is(err, ErrNotFound) && !errors.As(err, new(*ImageError)) && word != arg {
		if _, otherErr := s.Find(word); otherErr == nil {
			err = fmt.Errorf("%w, did you mean %q?", err, word) // without the path, or the end, of a file
		}
	}
	return p, err
}

// Read reads and checks the profile. A missing file is an ErrNotFound; a profile with mistakes is Errors.
func (r Ref) Read() (Profile, error) {
	text, err := readText(r.File)
	if errors.Is(err, fs.ErrNotExist) {
		if IsImage(r.File) {
			return Profile{}, &ImageError{r.File}
		}
		return Profile{}, fmt.Errorf("%w: %q", ErrNotFound, r.File)
	}
	if err != nil {
		return Profile{}, err
	}
	return Parse(r.File, text, r.Instance)
}

// Hidden returns the built-in profile, as "builtin:NAME", that an empty file hides by having the same name. Hidden
// returns "" where the file is not empty or no built-in profile has the name. "boxrun profile show NAME > NAME.toml"
// leaves such a file: the shell empties the file before boxrun looks.
func Hidden(file string) string {
	name := builtinPrefix + nameOf(file)
	info, err := os.Stat(file)
	if err == nil && info.Size() == 0 {
		if _, err = builtinText(name); err == nil {
			return name
		}
	}
	return ""
}

// readText returns the text of a file or built-in profile.
func readText(file string) ([]byte, error) {
	if strings.HasPrefix(file, builtinPrefix) {
		return builtinText(file)
	}
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0) // opening a FIFO would wait for a writer
	if err != nil {
		return nil, fmt.Errorf("reading profile: %w", err)
	}
	defer f.Close()
	info, err := f.Stat() // of the open file, as another may take its place meanwhile
	if err == nil && (info.IsDir() || info.Mode().IsRegular() && info.Size() > mostText && !strings.HasSuffix(file, ".toml")) {
		return nil, &ImageError{file}
	}
	if err == nil && info.Mode().IsRegular() && info.Size() > mostText {
		err = fmt.Errorf("has more than %d bytes, and is no profile", mostText)
	}
	if err == nil && !info.Mode().IsRegular() { // a pipe or a device might keep a reader waiting
		err = errors.New("is not a file, and so no profile: a profile names an image, as image = \"...\"")
	}
	if err != nil {
		return nil, fmt.Errorf("reading profile %s: %w", file, err)
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("reading profile: %w", err)
	}
	return text, nil
}

// mostText is the size of the largest profile, in bytes. A larger file is an image.
const mostText = 1 << 20

// Found is a profile on the search path.
type Found struct {
	Name        string `json:"name"`
	File        string `json:"file"`                  // a path, or "builtin:NAME"
	Description string `json:"description"`           // "" without a description or for an invalid profile
	ShadowedBy  string `json:"shadowed_by,omitempty"` // the file that counts under this name
	Error       string `json:"error,omitempty"`       // Err as text
	Err         error  `json:"-"`                     // what is wrong with the profile; nil if nothing
}

// List returns all profiles on the search path, in the order of the path and by name within a directory. A missing
// directory has no profiles; an unreadable directory is an error. In the current directory a TOML file without an image
// is taken for somebody else's file and left out.
func (s Search) List() ([]Found, error) {
	var files []string
	for _, dir := range s.Dirs {
		more, err := profileFiles(dir)
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	found := []Found{}
	of := map[string][]string{} // the files of each name
	for _, file := range append(files, builtinFiles()...) {
		f := find(file)
		of[f.Name] = append(of[f.Name], file)
		found = append(found, f)
	}
	for i, f := range found {
		if counts := s.counting(f.Name, of[f.Name]); !sameFile(counts, f.File) {
			found[i].ShadowedBy = counts
		}
	}
	return found, nil
}

// counting returns which of the files of a name Find finds: that of the box of the name, else the first.
func (s Search) counting(name string, files []string) string {
	started, ok := s.started(Ref{File: name})
	switch {
	case !ok || s.FilesFirst:
		return files[0]
	case !strings.HasPrefix(started.File, builtinPrefix):
		return started.File
	}
	elsewhere := slices.IndexFunc(files, func(file string) bool { return filepath.Dir(file) != here })
	return files[max(elsewhere, 0)]
}

// sameFile reports whether two paths, or names of built-in profiles, are the same.
func sameFile(a, b string) bool {
	one, err := absolute(a)
	other, otherErr := absolute(b)
	return a == b || err == nil && otherErr == nil && one == other
}

// profileFiles lists the profiles of a directory.
func profileFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !absent(dir, err) {
		return nil, fmt.Errorf("listing profiles: %w", err)
	}
	var files []string
	for _, e := range entries {
		file := filepath.Join(dir, e.Name())
		if filepath.Ext(file) == ".toml" && !e.IsDir() && (dir != here || hasImage(file)) {
			files = append(files, file)
		}
	}
	return files, nil
}

// hasImage reports whether a TOML file is meant to be a profile. A file that cannot be read or parsed counts as a
// profile, so that List shows the error.
func hasImage(file string) bool {
	var keys map[string]any
	text, err := readText(file)
	if err == nil {
		err = toml.Unmarshal(text, &keys)
	}
	return err != nil || keys["image"] != nil
}

// find reads a profile for List. A template is read as an instance with an arbitrary name, so that %i is no mistake.
func find(file string) Found {
	f := Found{Name: nameOf(file), File: file}
	p, err := Ref{File: file}.Read()
	if isTemplate(err) {
		p, err = Ref{File: file, Instance: "0"}.Read()
		f.Name += "@"
	}
	f.Description = p.Description
	if err != nil {
		f.Err, f.Error = err, err.Error()
	}
	return f
}

// isTemplate reports whether a profile lacks only an instance.
func isTemplate(err error) bool {
	var all Errors
	return errors.As(err, &all) && slices.ContainsFunc(all, func(e Error) bool {
		return strings.HasPrefix(e.Message, errNoInstance.Error())
	})
}
