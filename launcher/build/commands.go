package build

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/launcher/box"
	"boxrun/launcher/files"
	"boxrun/profiles"
)

// Commands returns the bash commands for doing by hand what Build does, with two differences. The commands write
// no record of what the image was built from. They replace a sandbox in two steps, because not every mv can exchange
// two directories.
func Commands(s *box.Store, p profiles.Profile) ([]string, error) {
	j, err := buildingOf(p)
	if err != nil {
		return nil, err
	}
	lines := []string{
		"rm -rf " + files.Quote(j.work()),
		"mkdir -p " + files.Quote(filepath.Dir(j.image)),
		"mkdir -m 700 " + files.QuoteAll([]string{j.work(), j.temporary()}),
	}
	if j.recipe.builtin() {
		files, err := j.recipe.builtinFiles()
		if err != nil {
			return nil, err
		}
		lines = append(lines, recipeCommands(files, j.dir())...)
	}
	lines = append(lines, "(cd "+files.Quote(j.dir())+" && env -i "+shownEnvironment(s, j)+" "+files.QuoteAll(j.argv("apptainer"))+" < /dev/null)")
	if _, err := os.Lstat(j.image); err == nil && j.sandbox {
		lines = append(lines, "mv -T "+files.QuoteAll([]string{j.image, filepath.Join(j.work(), "old")}))
	}
	return append(lines,
		"mv -T "+files.QuoteAll([]string{j.made(), j.image}),
		"rm -rf "+files.Quote(j.work())), nil
}

// recipeCommands returns the bash commands for doing by hand what WriteAll does.
func recipeCommands(recipe []files.File, dir string) []string {
	var all []files.File
	for _, f := range files.Below(dir, recipe) {
		all = append(all, files.Dir(filepath.Dir(f.Path)), f)
	}
	return files.Set{Files: all}.Commands()
}

// shownEnvironment returns the variables of a build, quoted for bash. The variables of proxies are shown without
// their values, because there may be a password in them.
func shownEnvironment(s *box.Store, j building) string {
	var words []string
	for _, v := range buildEnvironment(s, j) {
		name, _, _ := strings.Cut(v, "=")
		if slices.Contains(proxyVariables(), name) {
			words = append(words, name+`="$`+name+`"`)
			continue
		}
		words = append(words, files.Quote(v))
	}
	return strings.Join(words, " ")
}
