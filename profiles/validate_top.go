package profiles

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// decodeTop reads the keys above the first table.
func (p *Profile) decodeTop(s *section) {
	take(s, "description", &p.Description, text(oneLine))
	take(s, "image", &p.Image, text(s.doc.image))
	take(s, "hostname", &p.Hostname, text(optional(hostName)))
	take(s, "depends_on", &p.DependsOn, texts(profileName))
	p.checkDependsOn(s)
	if _, ok := s.raw["image"]; !ok {
		s.refuse("image", "is missing, every profile needs one")
	}
}

// image reads the path of a SIF file or sandbox directory, or "builtin:hello". The file need not exist yet.
func (d *document) image(s string) (string, error) {
	if strings.HasPrefix(s, builtinPrefix) {
		if s != builtinPrefix+"hello" {
			return "", fmt.Errorf("must be %q, the only image boxrun has in itself", builtinPrefix+"hello")
		}
		return s, nil
	}
	if scheme, _, ok := strings.Cut(s, "://"); ok && !strings.Contains(scheme, "/") {
		return "", errors.New("must be a file or directory: fetch it with \"apptainer pull\" first")
	}
	return d.path(s)
}

// path reads a path of the host and returns an absolute path. A relative path begins in the profile's directory.
func (d *document) path(s string) (string, error) {
	switch {
	case s == "":
		return "", errors.New("must not be empty")
	case strings.ContainsAny(s, "\n\t"):
		return "", errors.New("must not have line breaks or tabs")
	case s == "~" || strings.HasPrefix(s, "~/"):
		return "", errors.New("must not begin with ~, which only a shell expands")
	case filepath.IsAbs(s):
		return filepath.Clean(s), nil
	}
	abs, err := filepath.Abs(filepath.Join(d.dir, s))
	if err != nil { // a built-in profile, and the current directory has been removed
		return "", fmt.Errorf("must be an absolute path here: %w", err)
	}
	return abs, nil
}

// decode reads [build] of a profile with this image.
func (b *Build) decode(s *section, image string) {
	take(s, "definition", &b.Definition, text(optional(s.doc.definition)))
	if b.Definition != "" && strings.HasPrefix(image, builtinPrefix) {
		s.refuse("definition", "is for an image of your own: boxrun makes %q itself", image)
	}
}

// definition reads the path of a definition file, or the name of a built-in recipe.
func (d *document) definition(s string) (string, error) {
	if strings.HasPrefix(s, builtinPrefix) {
		_, err := Recipe(s)
		return s, err
	}
	return d.path(s)
}
