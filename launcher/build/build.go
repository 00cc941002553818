package build

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
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

// Options are the choices for a build.
type Options struct {
	Force     bool   // replace an image in use by a box that is up, and a sandbox that differs from what boxrun built
	IfNeeded  bool   // build only if the image is missing, or not known to be built from the definition as it is now
	Replacing string // the box about to be started anew from the image; it may be up; "" for none
	Version   string // boxrun's own version, for the record

	Show func(line string) // receives what Apptainer and the definition's scripts say, fit for a terminal, with colours
}

// Result says what a build did.
type Result struct {
	Image string // path of the image, without links
	Built bool   // false: the image was up to date, or the build failed
	Kept  string // where the replaced sandbox is kept for a running box; "" for nowhere
}

// Run makes the profile's image from its definition. Only a complete image is put in place: after a build that
// fails or is interrupted the old image is unchanged. The image is a SIF where its name ends in .sif, else a sandbox.
// Run waits while another build of the same image runs.
//
// A build writes only to a directory beside the image, because the new image can be swapped in at once only on the
// same file system. The directory is removed when the build ends. The directory of a killed boxrun is removed by the
// next build.
//
// With o.IfNeeded and an image that is up to date, Run does nothing and Built is false.
func Run(ctx context.Context, s *box.Store, p profiles.Profile, o Options) (Result, error) {
	j, err := buildingOf(p)
	if err != nil {
		return Result{}, err
	}
	j.store, j.Options = s, o
	sum := sha256.Sum256([]byte(j.image)) // without links, so all paths to an image share its lock
	unlock, err := s.Lock(ctx, "image-"+hex.EncodeToString(sum[:6]), "image "+j.image)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	if o.IfNeeded {
		why, err := j.outdated(ctx)
		if err != nil || why == "" {
			return Result{Image: j.image}, err
		}
		s.Notef("%s: building %s: %s", p.Name, j.image, why)
	}
	if err := j.refuse(); err != nil {
		return Result{}, err
	}
	return j.build(ctx)
}

// building describes the build of an image.
type building struct {
	Options
	store   *box.Store
	profile profiles.Profile
	recipe  recipe
	image   string // the final path, without links
	sandbox bool   // whether the image is a directory
}

// buildingOf returns the build of the profile's image, without store and options. A profile without a definition is an
// error.
func buildingOf(p profiles.Profile) (building, error) {
	if p.Build.Definition == "" {
		return building{}, fault.Invalid("name an Apptainer definition file there: definition = \"web.def\"",
			"%s: build.definition: is not set, so there is nothing to build from", p.File)
	}
	image := files.Resolved(p.Image)
	return building{
		profile: p, recipe: recipe{p.Build.Definition}, image: image, sandbox: filepath.Ext(image) != ".sif",
	}, nil
}

// work is the directory that holds everything a build writes until the build is over.
func (j building) work() string {
	dir, name := filepath.Split(j.image)
	return filepath.Join(dir, "."+name+".build")
}

// made is the path Apptainer is told to write the image to. For a SIF the name must end in .sif.
func (j building) made() string {
	if j.sandbox {
		return filepath.Join(j.work(), "image")
	}
	return filepath.Join(j.work(), "image.sif")
}

// temporary is the directory for Apptainer's temporary files: the whole unpacked image, before Apptainer packs it.
func (j building) temporary() string { return filepath.Join(j.work(), "tmp") }

// dir is the directory of the definition. Relative paths in %files of the definition start here.
func (j building) dir() string {
	if j.recipe.builtin() {
		return filepath.Join(j.work(), "recipe")
	}
	return filepath.Dir(j.recipe.Definition)
}

func (j building) definition() string { return filepath.Join(j.dir(), j.recipe.fileName()) }

// outdated returns the reason to build the image, "" where the image was built from the definition as it is now. A
// missing image, an image without a valid record of boxrun's, a changed definition and a missing definition are
// reasons.
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

// Outdated returns the reason to build the image of the profile anew. The reason is "" where the image is up to
// date, where the profile has no definition, and where p is nil because the profile is not known.
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

// refuse returns every reason, joined, why the image cannot be built or put in place. It changes nothing.
func (j building) refuse() error {
	_, err := apptainer.Look()
	_, unshareErr := lookUnshare()
	return errors.Join(err, unshareErr, j.refuseDefinition(), j.refuseKind(), j.refuseStranger(), j.refuseUsed())
}

// refuseDefinition returns an error where the definition does not exist or cannot be used. Builtin definitions always
// can.
func (j building) refuseDefinition() error {
	if j.recipe.builtin() {
		return nil
	}
	_, err := readDefinition(j.recipe.Definition)
	if errors.Is(err, fs.ErrNotExist) {
		return fault.Refused("put the definition there, or correct build.definition in "+j.profile.File,
			"%s: build.definition: %s", j.profile.File, files.NoSuchPath(j.recipe.Definition))
	}
	var problem *fault.Problem
	if errors.As(err, &problem) {
		problem.Text = fmt.Sprintf("%s: build.definition: %s", j.profile.File, problem.Text)
	}
	return err
}

// refuseKind returns an error where the image's place holds an image of the other kind: a file where the build makes
// a directory, or a directory where the build makes a SIF.
func (j building) refuseKind() error {
	info, err := os.Stat(j.image)
	if err != nil || info.IsDir() == j.sandbox {
		return files.IgnoreNotExist(err)
	}
	if j.sandbox {
		return fault.Invalid("call the image "+filepath.Base(j.image)+".sif, or remove the file",
			"%s: image: the build makes a directory, as its name does not end in .sif, and %q is a file",
			j.profile.File, j.image)
	}
	return fault.Invalid("give the image a name without .sif, or remove the directory",
		"%s: image: the build makes a SIF, as its name says, and %q is a directory", j.profile.File, j.image)
}

// refuseStranger returns an error where the image's place holds a directory that differs from what boxrun built:
// somebody's work may be in it. With Force there is no such error.
func (j building) refuseStranger() error {
	info, err := os.Stat(j.image)
	if err != nil || !info.IsDir() || !j.sandbox || j.Force {
		return files.IgnoreNotExist(err)
	}
	own, err := ownImage(j.image)
	if err != nil || own.Known() {
		return err
	}
	return fault.Refused(fmt.Sprintf("\"boxrun build --force %s\" replaces it", j.store.Search.Called(j.profile)),
		"%q is not as boxrun has built it: there may be work of yours in it", j.image)
}

// refuseUsed returns an error where a box other than Replacing runs from the image, unless Force is set. Such a
// box would go on with the old image, and nobody would notice.
func (j building) refuseUsed() error {
	if j.Force {
		return nil
	}
	boxes, err := j.store.Others(j.Replacing)
	var names []string
	for _, b := range boxes {
		if storage.HoldsFiles(b) && files.Resolved(b.Profile.Image) == j.image {
			names = append(names, b.Name)
		}
	}
	if len(names) == 0 {
		return err
	}
	hint := fmt.Sprintf("run \"boxrun down %[1]s\" first, or \"boxrun up --build %[1]s\", which starts it anew; "+
		"with --force it keeps the old image", strings.Join(names, " "))
	return fault.Refused(hint, "%s runs from %s", strings.Join(names, ", "), j.image)
}

// build makes the directory for the build, builds there, and removes the directory. After an error the directories
// made above the image are removed too, if they are empty.
func (j building) build(ctx context.Context) (Result, error) {
	missing := files.MissingDirs([]string{filepath.Dir(j.image)})
	done := Result{Image: j.image}
	err := j.begin()
	if err == nil {
		done.Kept, err = j.buildIn(ctx)
		done.Built = err == nil
	}
	if err = errors.Join(err, j.clean()); err != nil {
		err = errors.Join(err, files.Unmade(missing).Do())
	}
	return done, err
}

// buildIn runs the build in the directory made by begin, and puts the new image in place of the old. The returned path
// is swap's.
func (j building) buildIn(ctx context.Context) (kept string, err error) {
	fingerprint, err := j.recipe.fingerprint(ctx) // first: an edit during the build counts as a later change
	version, versionErr := apptainer.Version(ctx)
	if err := cmp.Or(err, versionErr); err != nil {
		return "", err
	}
	if err := j.run(ctx); err != nil {
		return "", err
	}
	if err := j.sync(); err != nil {
		return "", fmt.Errorf("writing the new image: %w", err)
	}
	return j.install(ctx, builtImage{
		Definition: j.recipe.Definition, Fingerprint: fingerprint, Apptainer: version, Boxrun: j.Version,
	})
}

// install writes the record r of the new image, and swaps the new image with the old image. install holds the lock under
// which boxes claim their images: a box that came up during the build is found here, and no box can come up between
// this check and the swap.
func (j building) install(ctx context.Context, r builtImage) (kept string, err error) {
	unlock, err := j.store.LockNetwork(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	if err := j.refuseUsed(); err != nil {
		return "", err
	}
	if err := j.note(r); err != nil {
		return "", err
	}
	return j.swap()
}
