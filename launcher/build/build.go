package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"boxrun/launcher/apptainer"
	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/storage"
	"boxrun/profiles"
)

// Options are the choices of one build.
type Options struct {
	Force     bool      // replace the image of a box that is up, and a sandbox that is not as boxrun has built it
	Outdated  bool      // build only where the image is missing, or is not known to be of the definition as it is now
	Replacing string    // the box that is about to be started anew from the image, and may be up; "" for none
	Version   string    // boxrun's own, for the record
	Output    io.Writer // for what Apptainer and the definition's scripts say
}

// Build is what a build did.
type Build struct {
	Image string // the path it is at, without links
	Done  bool   // false: it was of its definition already
	Kept  string // where the sandbox is that it has replaced under a box; "" for nowhere
}

// Run makes the profile's image from its definition, and puts it in place of what is there when it is complete: a build
// that fails or is interrupted leaves the image as it was. It waits for another build of the same image. The image is a
// SIF where its name ends in .sif, else a sandbox.
//
// All that a build writes is in a directory beside the image, as only so the image can be swapped in at once; the directory
// goes with the build, or that of a boxrun that was killed with the next build.
func Run(ctx context.Context, s *box.Store, p profiles.Profile, o Options) (Build, error) {
	j, err := buildingOf(p)
	if err != nil {
		return Build{}, err
	}
	unlock, err := s.Lock(ctx, j.lockName(), "image "+j.image)
	if err != nil {
		return Build{}, err
	}
	defer unlock()
	if o.Outdated {
		why, err := j.outdated(ctx)
		if err != nil || why == "" {
			return Build{Image: j.image}, err
		}
		s.Notef("%s: building %s: %s", p.Name, j.image, why)
	}
	if err := refuseBuild(s, j, o); err != nil {
		return Build{}, err
	}
	return build(ctx, s, j, o)
}

// building is one image, as it is being built.
type building struct {
	profile profiles.Profile
	recipe  recipe
	image   string // where it is to be, without links
	sandbox bool   // as a directory
}

func buildingOf(p profiles.Profile) (building, error) {
	if p.Build.Definition == "" {
		return building{}, fault.Invalid("name an Apptainer definition file there: definition = \"web.def\"",
			"%s: build.definition: is not set, so there is nothing to build from", p.File)
	}
	image := files.Resolved(p.Image)
	return building{profile: p, recipe: recipe{p.Build.Definition}, image: image, sandbox: filepath.Ext(image) != ".sif"}, nil
}

// work is the directory that holds all of a build until it is over.
func (j building) work() string {
	dir, name := filepath.Split(j.image)
	return filepath.Join(dir, "."+name+".build")
}

// made is what Apptainer is told to make. A SIF must be called one.
func (j building) made() string {
	if j.sandbox {
		return filepath.Join(j.work(), "image")
	}
	return filepath.Join(j.work(), "image.sif")
}

// temporary is where Apptainer puts its temporary files: the whole image before it is packed.
func (j building) temporary() string { return filepath.Join(j.work(), "tmp") }

// dir is where the definition is, and relative paths of its %files begin.
func (j building) dir() string {
	if j.recipe.builtin() {
		return filepath.Join(j.work(), "recipe")
	}
	return filepath.Dir(j.recipe.Definition)
}

func (j building) definition() string { return filepath.Join(j.dir(), j.recipe.fileName()) }

// lockName is one for each image, however it is named.
func (j building) lockName() string {
	sum := sha256.Sum256([]byte(j.image))
	return "image-" + hex.EncodeToString(sum[:6])
}

// outdated says why the image should be built: "" where it is of the definition as it is now.
func (j building) outdated(ctx context.Context) (string, error) {
	if _, err := os.Stat(j.image); errors.Is(err, fs.ErrNotExist) {
		return "there is no image yet", nil
	}
	r, ok, err := readBuilt(j.image)
	if err != nil {
		return "", err
	}
	if !ok {
		return "it is not known what the image was built from", nil
	}
	now, err := j.recipe.fingerprint(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return "the definition is gone", nil
	}
	if err != nil || now == r.Fingerprint {
		return "", err
	}
	return "the definition has changed", nil
}

// Outdated says why the image of the profile should be built anew: "" where it is of its definition, or has none, or
// the profile is not known.
func Outdated(ctx context.Context, p *profiles.Profile) (string, error) {
	if p == nil || p.Build.Definition == "" {
		return "", nil
	}
	j, err := buildingOf(*p)
	if err != nil {
		return "", err
	}
	return j.outdated(ctx)
}

// refuseBuild looks for all that would keep the image from being built or put in place.
func refuseBuild(s *box.Store, j building, o Options) error {
	_, err := apptainer.Look()
	_, unshareErr := lookUnshare()
	return errors.Join(err, unshareErr, j.refuseDefinition(), j.refuseKind(), j.refuseStranger(o, s.Search.Called(j.profile)), refuseUsed(s, j, o))
}

func (j building) refuseDefinition() error {
	if j.recipe.builtin() {
		return nil
	}
	_, err := readDefinition(j.recipe.Definition)
	if errors.Is(err, fs.ErrNotExist) {
		return fault.Invalid("put the definition there, or correct build.definition in "+j.profile.File,
			"%s: build.definition: no such file or directory: %q", j.profile.File, j.recipe.Definition)
	}
	var problem *fault.Problem
	if errors.As(err, &problem) {
		problem.Text = fmt.Sprintf("%s: build.definition: %s", j.profile.File, problem.Text)
	}
	return err
}

// refuseKind wants nothing, or an image of the kind that is to be built, in the image's place.
func (j building) refuseKind() error {
	info, err := os.Stat(j.image)
	if err != nil || info.IsDir() == j.sandbox {
		return files.IgnoreNotExist(err)
	}
	if j.sandbox {
		return fault.Invalid("call the image "+filepath.Base(j.image)+".sif, or remove the file", "%s: image: the build makes a directory, as its name "+
			"does not end in .sif, and %q is a file", j.profile.File, j.image)
	}
	return fault.Invalid("give the image a name without .sif, or remove the directory",
		"%s: image: the build makes a SIF, as its name says, and %q is a directory", j.profile.File, j.image)
}

// refuseStranger leaves a directory alone that is not as boxrun has built it: there may be somebody's work in it. called is
// what a person calls the profile.
func (j building) refuseStranger(o Options, called string) error {
	info, err := os.Stat(j.image)
	if err != nil || !info.IsDir() || !j.sandbox || o.Force {
		return files.IgnoreNotExist(err)
	}
	own, err := ownImage(j.image)
	if err != nil || own.Known() {
		return err
	}
	return fault.Refused(fmt.Sprintf("\"boxrun build --force %s\" replaces it", called),
		"%q is not as boxrun has built it: there may be work of yours in it", j.image)
}

// refuseUsed wants no box to run from the image. One that does would go on with the old image, and nobody would see.
func refuseUsed(s *box.Store, j building, o Options) error {
	if o.Force {
		return nil
	}
	boxes, err := s.Others(o.Replacing)
	var names []string
	for _, b := range boxes {
		if storage.HoldsFiles(b) && files.Resolved(b.Profile.Image) == j.image {
			names = append(names, b.Name)
		}
	}
	if len(names) == 0 {
		return err
	}
	list := strings.Join(names, " ")
	return fault.Refused(fmt.Sprintf("run \"boxrun down %s\" first, or \"boxrun up --build %s\", which starts it anew; with --force it keeps the old image",
		list, list), "%s runs from %s", strings.Join(names, ", "), j.image)
}

// build builds in a place of its own, which is gone afterwards.
func build(ctx context.Context, s *box.Store, j building, o Options) (Build, error) {
	missing := files.MissingDirs([]string{filepath.Dir(j.image)})
	done := Build{Image: j.image}
	err := begin(s, j)
	if err == nil {
		done, err = buildIn(ctx, s, j, o)
	}
	if err = errors.Join(err, clean(s, j)); err != nil {
		err = errors.Join(err, files.RemoveEmptyDirs(missing))
	}
	return done, err
}

// buildIn builds in the place that begin has made, and swaps what was made with what is there.
func buildIn(ctx context.Context, s *box.Store, j building, o Options) (Build, error) {
	done := Build{Image: j.image}
	fingerprint, err := j.recipe.fingerprint(ctx) // before: who edits the definition meanwhile has changed it since
	if err != nil {
		return done, err
	}
	version, err := apptainer.Version(ctx)
	if err != nil {
		return done, err
	}
	if err := runBuild(ctx, s, j, o.Output); err != nil {
		return done, err
	}
	if err := j.sync(); err != nil {
		return done, fmt.Errorf("writing the new image: %w", err)
	}
	done.Kept, err = place(ctx, s, j, o, func() error { return j.note(fingerprint, version, o.Version) })
	done.Done = err == nil
	return done, err
}

// place swaps the new image with what is there, once note has written down what it is. A box that came up while it was
// built is found: boxes claim their images under the same lock, so none can come between the look and the swap.
func place(ctx context.Context, s *box.Store, j building, o Options, note func() error) (kept string, err error) {
	unlock, err := s.LockNetwork(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	if err := refuseUsed(s, j, o); err != nil {
		return "", err
	}
	if err := note(); err != nil {
		return "", err
	}
	return swap(s, j)
}
