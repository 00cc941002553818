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

// ErrNotFound says that no profile has the name that was asked for.
var ErrNotFound = errors.New("no such profile")

// here is the current directory among the directories of a Search.
const here = "."

// Search is where profiles are looked for by name.
type Search struct {
	Dirs []string // first hit wins; the built-in profiles come last

	// Box gives the profile that the box of a name was started from, if there is one, for a name that no profile has; nil
	// where boxes are not asked.
	Box func(name string) (Ref, bool)
}

// FromEnvironment gives the search path: the current directory, those of $BOXRUN_PROFILES (separated by colons), boxrun's
// in $XDG_CONFIG_HOME or ~/.config, and the host's.
func FromEnvironment() Search {
	dirs := []string{here}
	for _, dir := range filepath.SplitList(os.Getenv("BOXRUN_PROFILES")) {
		if dir != "" {
			dirs = append(dirs, dir)
		}
	}
	if config, err := os.UserConfigDir(); err == nil { // without a home there is none
		dirs = append(dirs, filepath.Join(config, "boxrun", "profiles"))
	}
	return Search{Dirs: append(dirs, OfHost().Dirs...)}
}

// With gives a search that looks into dirs as well, where it looks into those of a person.
func (s Search) With(dirs []string) Search {
	at := 0
	if len(s.Dirs) > 0 && s.Dirs[0] == here {
		at = 1
	}
	s.Dirs = slices.Insert(slices.Clone(s.Dirs), at, dirs...)
	return s
}

// Kept gives the directories of the search that are there and in which a person keeps profiles: neither the current one nor
// the host's. The paths are absolute.
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

// OfHost gives where the host's own profiles are, those that may be started at boot.
func OfHost() Search {
	return Search{Dirs: []string{"/etc/boxrun/profiles", "/usr/share/boxrun/profiles"}}
}

// A Ref is a profile that was found: a file and the instance to start it as.
type Ref struct {
	File     string // a path, or "builtin:NAME"
	Instance string // "" for none
}

// String gives what Find finds again anywhere, FILE or FILE@INSTANCE, if File is absolute or built in.
func (r Ref) String() string {
	if r.Instance == "" {
		return r.File
	}
	return r.File + "@" + r.Instance
}

// Ref gives where the profile was read from, and as which instance.
func (p Profile) Ref() Ref {
	return Ref{File: p.File, Instance: strings.TrimPrefix(strings.TrimPrefix(p.Name, nameOf(p.File)), "-")}
}

// Word gives what a person would call the profile by: NAME or NAME@INSTANCE.
func (p Profile) Word() string {
	r := p.Ref()
	r.File = nameOf(r.File)
	return r.String()
}

// Find looks for the profile that a person named: a path (with a slash or ending in .toml), "builtin:NAME", or a name on
// the search path; each may have an instance behind an @. What no profile is called may be a box: one that runs as an
// instance, or from a path. A path is taken as it is, whether there is such a file or not.
// A name that is nowhere is an ErrNotFound; a directory that cannot be searched is an error too.
func (s Search) Find(arg string) (Ref, error) {
	name, instance, err := cutInstance(arg)
	if err != nil {
		return Ref{}, err
	}
	if strings.HasPrefix(name, builtinPrefix) || strings.Contains(name, "/") || strings.HasSuffix(name, ".toml") {
		return Ref{name, instance}, nil
	}
	for _, dir := range s.Dirs {
		file := filepath.Join(dir, name+".toml")
		_, err := os.Stat(file)
		if err == nil && name != "" {
			return Ref{file, instance}, nil
		}
		if err != nil && !absent(dir, err) {
			return Ref{}, fmt.Errorf("looking for profile %q: %w", name, err)
		}
	}
	if _, err := builtinText(builtinPrefix + name); err == nil {
		return Ref{builtinPrefix + name, instance}, nil
	}
	if s.Box != nil && instance == "" {
		if ref, ok := s.Box(name); ok {
			return ref, nil
		}
	}
	return Ref{}, s.notFound(name)
}

// absent tells whether err means that dir has no profiles. One may stand in a directory that one cannot read, as under
// "sudo -u": that is no reason to fail.
func absent(dir string, err error) bool {
	return errors.Is(err, fs.ErrNotExist) || dir == here && errors.Is(err, fs.ErrPermission)
}

// cutInstance splits NAME@INSTANCE. An @ in a directory's or file's name is not meant.
func cutInstance(arg string) (name, instance string, err error) {
	i := strings.LastIndexByte(arg, '@')
	if i < 0 || strings.Contains(arg[i:], "/") || strings.HasSuffix(arg, ".toml") {
		return arg, "", nil
	}
	if err := CheckName(arg[i+1:]); err != nil {
		return "", "", Errors{{File: arg, Message: fmt.Sprintf("the instance %v, got %q", err, arg[i+1:])}}
	}
	return arg[:i], arg[i+1:], nil
}

// Word gives the short word, NAME or NAME@INSTANCE, for what arg, as Find takes it, stands for, whether there is such a
// profile or not.
func Word(arg string) string {
	file, instance, err := cutInstance(arg)
	if err != nil {
		return nameOf(arg) // no profile has such a word
	}
	return Ref{nameOf(file), instance}.String()
}

// BoxName gives the name of the box that arg, as Find takes it, stands for, whether there is such a profile or not.
func BoxName(arg string) string {
	file, instance, err := cutInstance(arg)
	if err != nil {
		return arg // no box has such a name
	}
	if instance != "" {
		return nameOf(file) + "-" + instance
	}
	return nameOf(file)
}

// notFound says that there is no profile of a name, and which may have been meant.
func (s Search) notFound(name string) error {
	return fmt.Errorf("%w: %q%s", ErrNotFound, name, s.DidYouMean(name))
}

// DidYouMean gives a guess at the one of names, or at the profile, that was meant by name, to stand behind an error; "" where
// none is near, or where there is a profile of just that name. Of two that are as near it is the one of names.
func (s Search) DidYouMean(name string, names ...string) string {
	found, err := s.List()
	if err != nil {
		found = nil // what cannot be listed cannot be suggested
	}
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

// Called gives what a person is to call a profile that was read: its word where that finds it, else its file.
func (s Search) Called(p Profile) string {
	word := p.Word()
	ref, err := s.Find(word)
	if err != nil {
		return p.Ref().String()
	}
	if file, err := absolute(ref.File); err != nil || file != p.File {
		return p.Ref().String()
	}
	return word
}

// Load finds, reads and checks the profile that a person named. See Find and Read for the errors.
func (s Search) Load(arg string) (Profile, error) {
	ref, err := s.Find(arg)
	if err != nil {
		return Profile{}, err
	}
	return ref.Read()
}

// Read reads and checks the profile. A file that is not there is an ErrNotFound; a profile with mistakes is Errors.
func (r Ref) Read() (Profile, error) {
	text, err := readText(r.File)
	if errors.Is(err, fs.ErrNotExist) {
		return Profile{}, fmt.Errorf("%w: %q", ErrNotFound, r.File)
	}
	if err != nil {
		return Profile{}, err
	}
	return Parse(r.File, text, r.Instance)
}

// Hidden gives the built-in profile, as "builtin:NAME", that an empty file hides by its name; "" where it is not empty or
// there is none. "boxrun profile show NAME > NAME.toml" leaves such a file: the shell empties it before boxrun looks.
func Hidden(file string) string {
	name := builtinPrefix + nameOf(file)
	info, err := os.Stat(file)
	if err != nil || info.Size() > 0 {
		return ""
	}
	if _, err := builtinText(name); err != nil {
		return ""
	}
	return name
}

// readText gives the text of a file or built-in profile.
func readText(file string) ([]byte, error) {
	if strings.HasPrefix(file, builtinPrefix) {
		return builtinText(file)
	}
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO would wait for somebody to write
	if err != nil {
		return nil, fmt.Errorf("reading profile: %w", err)
	}
	defer f.Close()
	info, err := f.Stat() // of what is read, whatever takes its place meanwhile
	if err == nil {
		err = plain(info)
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

// plain refuses what cannot be a profile, and might keep a reader waiting: pipes, devices, huge files.
func plain(info fs.FileInfo) error {
	const most = 1 << 20 // bytes
	if !info.Mode().IsRegular() {
		return errors.New("is not a file")
	}
	if info.Size() > most {
		return fmt.Errorf("has more than %d bytes", most)
	}
	return nil
}

// Found is a profile on the search path.
type Found struct {
	Name        string `json:"name"`
	File        string `json:"file"`                  // a path, or "builtin:NAME"
	Description string `json:"description"`           // "" where it has none or is invalid
	ShadowedBy  string `json:"shadowed_by,omitempty"` // the file that is taken for the name instead of this
	Error       string `json:"error,omitempty"`       // Err as text
	Err         error  `json:"-"`                     // what is wrong with the profile; nil if nothing
}

// List gives all profiles on the search path, in its order and by name within a directory. A directory that is not there
// has none; one that cannot be read is an error. In the current directory a TOML file without an image is taken for
// somebody else's and left out.
func (s Search) List() ([]Found, error) {
	var files []string
	for _, dir := range s.Dirs {
		more, err := profileFiles(dir)
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	more, err := builtinFiles()
	if err != nil {
		return nil, err
	}
	first := map[string]string{}
	found := []Found{}
	for _, file := range append(files, more...) {
		f := find(file)
		if earlier, ok := first[f.Name]; ok && earlier != file {
			f.ShadowedBy = earlier
		} else {
			first[f.Name] = file
		}
		found = append(found, f)
	}
	return found, nil
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

// hasImage tells whether a TOML file is meant to be a profile. If that cannot be told, it is, so that its error is shown.
func hasImage(file string) bool {
	text, err := readText(file)
	if err != nil {
		return true
	}
	keys := map[string]any{}
	if _, err := toml.Decode(string(text), &keys); err != nil {
		return true
	}
	_, ok := keys["image"]
	return ok
}

// find reads one profile for a list. A template is read as an instance of some name, so that its %i is no mistake.
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

// isTemplate tells whether a profile only lacks an instance.
func isTemplate(err error) bool {
	var all Errors
	return errors.As(err, &all) && slices.ContainsFunc(all, func(e Error) bool {
		return strings.HasPrefix(e.Message, errNoInstance.Error())
	})
}
