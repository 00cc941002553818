package launcher

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/profiles"
)

// BuildCommands gives what a person would type into bash to have what Build gives, but for the record of what the image
// was built from, and that a sandbox is replaced in two steps: not every mv can exchange.
func (s *Store) BuildCommands(p profiles.Profile) ([]string, error) {
	j, err := buildingOf(p)
	if err != nil {
		return nil, err
	}
	lines := []string{
		"rm -rf " + quote(j.work()),
		"mkdir -p " + quote(filepath.Dir(j.image)),
		"mkdir -m 700 " + Quote([]string{j.work(), j.temporary()}),
	}
	if j.recipe.builtin() {
		files, err := j.recipe.builtinFiles()
		if err != nil {
			return nil, err
		}
		lines = append(lines, recipeCommands(files, j.dir())...)
	}
	lines = append(lines, "(cd "+quote(j.dir())+" && env -i "+s.shownEnvironment(j)+" "+Quote(j.argv("apptainer"))+" < /dev/null)")
	if _, err := os.Lstat(j.image); err == nil && j.sandbox {
		lines = append(lines, "mv -T "+Quote([]string{j.image, filepath.Join(j.work(), "old")}))
	}
	return append(lines,
		"mv -T "+Quote([]string{j.made(), j.image}),
		"rm -rf "+quote(j.work())), nil
}

// recipeCommands gives what a person would type to have what writeFiles makes.
func recipeCommands(recipe []confFile, dir string) []string {
	var lines []string
	for _, f := range recipe {
		path := filepath.Join(dir, f.Path)
		lines = append(lines, "mkdir -p "+quote(filepath.Dir(path)), f.command(dir))
		if f.Mode == 0o755 {
			lines = append(lines, "chmod 755 "+quote(path))
		}
	}
	return lines
}

// shownEnvironment gives the variables of a build in bash, those of proxies without their values: there may be a password
// in them.
func (s *Store) shownEnvironment(j building) string {
	var words []string
	for _, v := range s.buildEnvironment(j) {
		name, _, _ := strings.Cut(v, "=")
		if slices.Contains(proxyVariables(), name) {
			words = append(words, name+`="$`+name+`"`)
			continue
		}
		words = append(words, quote(v))
	}
	return strings.Join(words, " ")
}
