package small

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Find returns the files that a pattern stands for, sorted: DIR/*/NAME with the * for any directory, or a path alone. A DIR
// that is missing has none. filepath.Glob lists each directory, and in /proc/sys the kernel makes each name for the
// listing: sixty names for each network device.
func Find(pattern string) ([]string, error) {
	dir, name, many := strings.Cut(pattern, "*")
	names := []string{""}
	if many {
		var err error
		if names, err = namesIn(dir); err != nil {
			return nil, err
		}
	}
	paths := make([]string, 0, len(names))
	for _, n := range names {
		if path := dir + n + name; unix.Access(path, unix.F_OK) == nil {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths, nil
}

// namesIn returns the names in a directory; none where the directory is missing.
func namesIn(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}
