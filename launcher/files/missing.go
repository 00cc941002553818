package files

import (
	"fmt"
	"os"
	"path/filepath"

	"boxrun/near"
)

// NoSuchPath says that nothing is at a path, with a guess at the name that a person meant in the same directory.
func NoSuchPath(path string) string {
	text := fmt.Sprintf("no such file or directory: %q", path)
	dir, base := filepath.Split(path)
	entries, _ := os.ReadDir(filepath.Dir(path)) // what cannot be listed cannot be suggested
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if meant := near.Word(base, names, min(2, len(base)/2)); meant != "" {
		text += fmt.Sprintf(", did you mean %q?", dir+meant)
	}
	return text
}
