package profiles

import (
	"fmt"
	"strconv"
	"strings"

	"boxrun/profiles/port"
)

// First is what a person says of a new profile.
type First struct {
	Image string   // "" for NAME.sif
	Ports []string // to publish, in the forms that port.Parse reads
}

// New returns the text of a new profile called name: the template with what f says. The box is looked at every 30 s, and is
// ready when the published ports of TCP accept connections. The error is of a name or a port that is none.
func New(name string, f First) (string, error) {
	if err := CheckName(name); err != nil {
		return "", fmt.Errorf("the name %q %w", name, err)
	}
	lines := [][2]string{{`#interval = "0s"`, `interval = "30s"`}}
	if f.Image != "" {
		lines = append(lines, [2]string{fmt.Sprintf("image = %q", name+".sif"), "image = " + strconv.Quote(f.Image)})
	}
	var published, accepting []string
	for _, text := range f.Ports {
		p, err := port.Parse(text)
		if err != nil {
			return "", fmt.Errorf("a port to publish %w, got %q", err, text)
		}
		published = append(published, strconv.Quote(text))
		if p.Proto == "tcp" && p.Count == 1 {
			accepting = append(accepting, fmt.Sprint(p.Container))
		}
	}
	if len(published) > 0 {
		lines = append(lines, [2]string{"#ports = []", "ports = [" + strings.Join(published, ", ") + "]"})
	}
	if len(accepting) > 0 {
		lines = append(lines, [2]string{"#tcp = []", "tcp = [" + strings.Join(accepting, ", ") + "]"})
	}
	text := Template(name)
	for _, line := range lines {
		text = strings.Replace(text, "\n"+line[0]+"\n", "\n"+line[1]+"\n", 1)
	}
	return text, nil
}

// ImageError is the error for an image that a person named where a profile is wanted. The error is an ErrNotFound.
type ImageError struct{ Image string }

func (e *ImageError) Error() string { return fmt.Sprintf("%q is an image, and no profile", e.Image) }

func (e *ImageError) Unwrap() error { return ErrNotFound }

// IsImage reports whether a word names an image by its form: a SIF file, or an address as Apptainer has them.
func IsImage(word string) bool {
	return strings.HasSuffix(word, ".sif") || strings.Contains(word, "://")
}
