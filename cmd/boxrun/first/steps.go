package first

import (
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"boxrun/profiles"
)

// wish is what a person who wants a box said in the words of another tool.
type wish struct {
	name, image string
	ports       []string
}

// valued are flags of other tools with a value that read skips.
const valued = "-v --volume -e --env -m --memory --cpus --network --hostname -h -u --user -w --workdir --restart --bind --template -c --config"

// read reads the words behind a verb: flags for a name, an image and ports as of Docker, podman and systemd-nspawn, and
// then a name and an image in any order. A command behind the image is not read. With remote, a word unlike an image
// names an image of a registry.
func read(words []string, remote bool) wish {
	var f wish
	var plain []string
	for i := 0; i < len(words); i++ {
		flag, value, joined := strings.Cut(words[i], "=")
		if !strings.HasPrefix(flag, "-") {
			plain = append(plain, words[i])
			continue
		}
		next := func() string {
			if !joined && i+1 < len(words) {
				i++
				value = words[i]
			}
			return value
		}
		switch {
		case flag == "-p" || flag == "--publish" || flag == "--port":
			f.ports = append(f.ports, next())
		case flag == "--name" || flag == "-M" || flag == "--machine":
			f.name = next()
		case flag == "-D" || flag == "--directory" || flag == "--image":
			f.image = next()
		case slices.Contains(strings.Fields(valued), flag):
			_ = next()
		}
	}
	return f.filled(plain, remote)
}

// filled takes the name and the image from words without dashes, where flags have not told.
func (f wish) filled(words []string, remote bool) wish {
	words = words[:min(len(words), 2)]
	at := slices.IndexFunc(words, isImage)
	if at < 0 && remote {
		at = 0
	}
	if f.image == "" && at >= 0 && at < len(words) {
		f.image = words[at]
		if !isImage(f.image) {
			f.image = "docker://" + f.image
		}
		if remote { // what follows is a command
			words = words[:at+1]
		}
		words = slices.Delete(slices.Clone(words), at, at+1)
	}
	if f.name == "" && len(words) > 0 && profiles.CheckName(words[0]) == nil {
		f.name = words[0]
	}
	return f
}

// isImage reports whether a word names an image: by its form, or as a directory.
func isImage(word string) bool {
	info, err := os.Stat(word)
	return profiles.IsImage(word) || strings.Contains(word, "/") || strings.HasPrefix(word, "builtin:") || err == nil && info.IsDir()
}

// unfit are the characters that the name of a box cannot have.
var unfit = regexp.MustCompile("[^a-z0-9]+")

// nameFor returns a name for a box from an image's: of "docker://debian:13" "debian", and NAME of a word without one.
func nameFor(image string) string {
	base, _, _ := strings.Cut(path.Base(image), ":")
	name := strings.Trim(unfit.ReplaceAllString(strings.ToLower(strings.TrimSuffix(base, path.Ext(base))), "-"), "-")
	if strings.HasPrefix(image, "builtin:") || profiles.CheckName(name) != nil {
		return "NAME"
	}
	return name
}

// steps says how to come to a box: the commands in order, quoted, each ready to be typed.
func (f wish) steps() string {
	if f.name == "" {
		f.name = nameFor(f.image)
	}
	fetch := ""
	if strings.Contains(f.image, "://") {
		fetch = fmt.Sprintf("\"apptainer pull %s.sif %s\" fetches the image, which must have a systemd; then ", f.name, f.image)
		f.image = f.name + ".sif"
	}
	if f.image == "" {
		f.image = "IMAGE"
	}
	publish := ""
	for _, p := range f.ports {
		publish += " -p " + p
	}
	return fmt.Sprintf("%s\"boxrun profile init%s %s %s\" writes a profile, and \"boxrun up %[3]s\" starts its box", fetch, publish, f.name, f.image)
}

// WithImage says how to come to a box with an image named in the place of a profile.
func WithImage(image string) string { return wish{image: image}.steps() }

// Behind says how to come to the box wanted with a verb of another tool; "" for other verbs, and where the words have
// neither a name nor an image.
func Behind(verb string, words []string) string {
	remote := verb == "run" || verb == "launch" // which take an image of a registry
	f := read(words, remote)
	if !remote && !slices.Contains(strings.Fields("create init new import-fs import-raw boot clone"), verb) || f.name == "" && f.image == "" {
		return ""
	}
	return f.steps()
}
