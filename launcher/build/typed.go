package build

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"boxrun/launcher/box"
	"boxrun/launcher/files"
	"boxrun/profiles"
)

// Typed returns the bash commands for doing by hand what Run does, with two differences. The commands write
// no record of what the image was built from. They replace a sandbox in two steps, because not every mv can exchange
// two directories.
func Typed(s *box.Store, p profiles.Profile) ([]string, error) {
	j, err := buildingOf(p)
	if err != nil {
		return nil, err
	}
	j.store = s
	place, err := j.place()
	if err != nil {
		return nil, err
	}
	gone := files.Removal{Paths: []string{j.work()}}.Command()
	lines := append([]string{gone}, place.Commands()...)
	lines = append(lines, fmt.Sprintf("(cd %s && env -i %s %s < /dev/null)",
		files.Quote(j.dir()), j.shownEnvironment(), files.QuoteAll(j.argv("apptainer"))))
	if _, err := os.Lstat(j.image); err == nil && j.sandbox {
		lines = append(lines, "mv -T "+files.QuoteAll([]string{j.image, filepath.Join(j.work(), "old")}))
	}
	return append(lines,
		"mv -T "+files.QuoteAll([]string{j.made(), j.image}),
		gone), nil
}

// shownEnvironment returns the variables of a build, quoted for bash. The variables of proxies are shown without
// their values, because there may be a password in them.
func (j building) shownEnvironment() string {
	env, proxies := j.environment()
	shown := files.QuoteAll(env)
	for _, v := range proxies {
		name, _, _ := strings.Cut(v, "=")
		shown += " " + name + `="$` + name + `"`
	}
	return shown
}
