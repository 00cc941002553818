package files

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// A missing path comes with the nearest name of its directory, if one is near.
func TestNoSuchPath(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"web.sif", "db"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	for path, meant := range map[string]string{
		dir + "/wbe.sif":     dir + "/web.sif",
		"web.si":             "web.sif",
		"./wbe.sif":          "./web.sif",
		dir + "/shop.sif":    "",
		dir + "/none/wbe":    "",
		dir + "/d":           "",
		"/proc/self/comm/db": "",
	} {
		want := fmt.Sprintf("no such file or directory: %q", path)
		if meant != "" {
			want += fmt.Sprintf(", did you mean %q?", meant)
		}
		if got := NoSuchPath(path); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
