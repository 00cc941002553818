package units

import (
	"context"
	_ "embed"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/list"
	"boxrun/launcher/process"
	"boxrun/profiles"
)

// Booted reports whether systemd runs the host, by the test of sd_booted(3).
func Booted() bool { return files.Exists("/run/systemd/system") }

// The units of boxrun. On a host run by systemd, every box lives in one of two services:
//
//	boxrun-NAME.service   transient: made by the "boxrun up" of the box, gone with the box (service.go)
//	boxrun@NAME.service   of an enabled box: starts it at boot, and also supervises it after a start by hand
//
// More services put back what somebody on the host took away (watch.go):
//
//	boxrun-repair@FIREWALL.service   runs "boxrun repair" after every start, restart or reload of FIREWALL
//	boxrun-watch@host.service        does so after every change that the kernel, firewalld or a resolver tells of (room watch)
//
// Each firewall has a boxrun-repair service of its own, because some firewalls conflict: firewalld's start stops
// nftables. A single service for both would be told to start and to stop at once, and systemd would refuse the start of
// firewalld.

//go:embed boxrun@.service
var templateText string

//go:embed profile.conf
var profileText string

//go:embed boxrun-repair@.service
var repairText string

//go:embed boxrun-watch@.service
var watchText string

// Dir is where the units of enabled boxes are.
const Dir = "/etc/systemd/system"

// WatchUnit is the service that watches the host.
const WatchUnit = "boxrun-watch@host.service"

const (
	unitRunDir     = "/run/systemd/system" // for a running box after its disable; the next boot empties it
	templateUnit   = "boxrun@.service"
	repairTemplate = "boxrun-repair@.service"
	watchTemplate  = "boxrun-watch@.service" // with an @, unlike the service of a box named watch
	bootTarget     = "multi-user.target"
)

// startedBefore returns the units to start before a box, and so to stop after the box. A box needs the network, D-Bus
// (for Apptainer to make and end its scope), and remote mounts. A firewall started later would take rules away.
func startedBefore() []string {
	return append([]string{"network-online.target", "remote-fs.target", "dbus.service"}, firewalls()...)
}

// Transient returns the service around Apptainer for a box started by hand.
func Transient(box string) string { return "boxrun-" + box + ".service" }

// Instance returns the service of an enabled box. The instance is the argument of "boxrun up": NAME or NAME@INSTANCE.
func Instance(p profiles.Profile) string { return instanceOf(p.Word()) }

// instanceOf returns the service for a word from profiles.Word. enable made the service's name the same way, so the
// profile itself may be gone.
func instanceOf(word string) string { return "boxrun@" + word + ".service" }

// wordOf returns the word that instanceOf was given for a service of an enabled box.
func wordOf(unit string) string {
	return strings.TrimSuffix(strings.TrimPrefix(unit, "boxrun@"), ".service")
}

// unitsOf returns the services that may hold or supervise the box.
func unitsOf(b *box.Box) []string { return []string{Transient(b.Name), Instance(b.Profile)} }

// IsOf reports whether a service belongs to the named box.
func IsOf(unit, box string) bool {
	arg, ok := strings.CutPrefix(strings.TrimSuffix(unit, ".service"), "boxrun@")
	return unit == Transient(box) || ok && profiles.BoxName(arg) == box
}

// Of returns the boxrun service around a process; "" for none.
func Of(pid int) string {
	text, _ := os.ReadFile(process.ProcFile(pid, "cgroup")) // a process that is gone is in no service
	for line := range strings.Lines(string(text)) {
		unit := path.Base(strings.TrimSpace(line))
		if strings.HasPrefix(unit, "boxrun") && strings.HasSuffix(unit, ".service") {
			return unit
		}
	}
	return ""
}

// For returns the service a box of the profile will live in; "" on a host not run by systemd.
func For(c box.Caller, p profiles.Profile) string {
	switch {
	case c.Unit == Instance(p):
		return c.Unit
	case Booted():
		return Transient(p.Name)
	}
	return ""
}

// ExitHalted is the exit code of a boxrun that ended because of process.HaltSignal, for boxrun@.service.
const ExitHalted = 128 + int(process.HaltSignal)

// ReadCaller returns what runs this boxrun. systemd tells the commands that stop a service of the service's main
// process, in variables (systemd.exec(5), systemd.service(5)).
func ReadCaller() box.Caller {
	status, ended := os.LookupEnv("EXIT_STATUS")
	return box.Caller{
		Root: os.Geteuid() == 0, Unit: Of(os.Getpid()), MainPID: os.Getenv("MAINPID"), Ended: ended,
		Halted: status == "RTMIN+3" || status == strconv.Itoa(ExitHalted),
	}
}

// stopGrace is the time a box's service may take to stop beyond the time of the box: for Apptainer and boxrun to clean
// up.
const stopGrace = 30 * time.Second

// BootTimeout returns how long Apptainer may take to start the box: ready.timeout, but at least a minute, because a
// short ready.timeout is no measure for a slow disk. A box not ready in time stays up; a box not started in time goes.
func BootTimeout(p profiles.Profile) time.Duration { return max(p.Ready.Timeout, time.Minute) }

// startGrace is the time a start may take beside the two waits for the box to boot and to be ready: for the lock, and
// for dependencies.
const startGrace = time.Minute

// startTimeout returns how long the start of an enabled box may take.
func startTimeout(p profiles.Profile) time.Duration { return 2*BootTimeout(p) + startGrace }

// unitFile returns a file of systemd's.
func unitFile(path, text string) files.File {
	return files.File{Path: path, Content: text, Mode: 0o644, Whole: true}
}

// sharedUnits returns the units common to all enabled boxes, below dir.
func sharedUnits(s *box.Store, dir string) ([]files.File, error) {
	exe, err := unitPath(s.Exe)
	if err != nil {
		return nil, err
	}
	fill := strings.NewReplacer(
		"@BOXRUN@", exe,
		"@AFTER@", strings.Join(startedBefore(), " "),
	)
	return []files.File{
		unitFile(filepath.Join(dir, templateUnit), fill.Replace(templateText)),
		unitFile(filepath.Join(dir, repairTemplate), fill.Replace(repairText)),
		unitFile(filepath.Join(dir, watchTemplate), fill.Replace(watchText)),
	}, nil
}

// plainPaths matches paths with the same meaning in a unit as anywhere.
var plainPaths = regexp.MustCompile(`^/[A-Za-z0-9/._+-]+$`)

// unitPath returns exe, and refuses a path systemd would read differently.
func unitPath(exe string) (string, error) {
	if !plainPaths.MatchString(exe) {
		return "", fault.Refused("install it as /usr/local/bin/boxrun", "boxrun's own path %q cannot be written in a unit", exe)
	}
	return exe, nil
}

// dropIn returns the settings of boxrun@.service for a single profile, as a file below dir.
func dropIn(dir string, p profiles.Profile) files.File {
	fill := strings.NewReplacer(
		"@FILE@", p.File,
		"@AFTER@", strings.Join(dependencyUnits(p), " "),
		"@FAILURE@", failureUnit(p),
		"@MOUNTS@", strings.Join(quotedPaths(p), " "),
		"@START@", wholeSeconds(startTimeout(p)),
		"@STOP@", wholeSeconds(p.Systemd.StopTimeout+stopGrace),
		"@RESTART@", p.Systemd.Restart,
	)
	return unitFile(dropInPath(dir, Instance(p)), withoutValue.ReplaceAllString(fill.Replace(profileText), ""))
}

// dropInPath returns the path of a unit's settings below dir.
func dropInPath(dir, unit string) string { return filepath.Join(dir, unit+".d", "profile.conf") }

// withoutValue matches a setting without a value.
var withoutValue = regexp.MustCompile(`(?m)^.*=\n`)

// dependencyUnits returns the services of the boxes the profile depends on. However these boxes were started, they
// start before the profile's box and stop after.
func dependencyUnits(p profiles.Profile) []string {
	var units []string
	for _, arg := range p.DependsOn {
		units = append(units, instanceOf(arg), Transient(profiles.BoxName(arg)))
	}
	return units
}

// mountedPaths returns the paths of the host the box lives on.
func mountedPaths(p profiles.Profile) []string {
	var paths []string
	if !box.IsHello(p.Image) {
		paths = append(paths, p.Image)
	}
	if p.Storage.Root == "overlay" {
		paths = append(paths, p.Storage.Overlay)
	}
	for _, b := range p.Storage.Binds {
		paths = append(paths, b.Source)
	}
	for _, name := range slices.Sorted(maps.Keys(p.Secrets)) {
		paths = append(paths, p.Secrets[name])
	}
	return paths
}

// quotedPaths returns mountedPaths for systemd to read back: quoted, and without specifiers.
func quotedPaths(p profiles.Profile) []string {
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%")
	return list.Map(mountedPaths(p), func(path string) string { return `"` + quote.Replace(path) + `"` })
}

// wholeSeconds returns a time in seconds, rounded up.
func wholeSeconds(d time.Duration) string {
	return strconv.Itoa(int((d + time.Second - 1) / time.Second))
}

// wantsLink returns the link to make systemd start unit together with by.
func wantsLink(by, unit string) string { return filepath.Join(Dir, by+".wants", unit) }

// EnabledAs returns the profile started at boot as the named box, as NAME or NAME@INSTANCE; "" for none. The profile is
// the host's, whatever profile the running box was started from.
func EnabledAs(box string) string {
	enabled, _ := enabledUnits() // the pattern is well-formed
	for _, unit := range enabled {
		if IsOf(unit, box) {
			return wordOf(unit)
		}
	}
	return ""
}

// GivenUp reports whether the service of an enabled box has failed for good: systemd starts the box no more.
func GivenUp(ctx context.Context, box string) (bool, error) {
	host, err := Dial(ctx)
	if err != nil {
		return false, err
	}
	defer host.Close()
	unit := instanceOf(EnabledAs(box))
	state, err := host.activeState(ctx, unit)
	return state == "failed", fault.Wrap("asking systemd for "+unit, err)
}

// EnabledNames returns the profiles started at boot, as NAME or NAME@INSTANCE.
func EnabledNames() []string {
	enabled, _ := enabledUnits() // the pattern is well-formed
	return list.Map(enabled, wordOf)
}

// Enabled reports whether the profile is started at boot. A profile kept elsewhere by a person is not, even if a
// profile of the host has the same name.
func Enabled(p profiles.Profile) bool {
	ofHost := slices.Contains(profiles.OfHost().Dirs, filepath.Dir(p.File)) || strings.HasPrefix(p.File, "builtin:")
	return ofHost && startedAtBoot(Instance(p))
}

// startedAtBoot reports whether the boot target has a link to unit.
func startedAtBoot(unit string) bool {
	_, err := os.Lstat(wantsLink(bootTarget, unit))
	return err == nil
}

// enabledUnits returns the names of the instances started at boot.
func enabledUnits() ([]string, error) {
	links, err := filepath.Glob(wantsLink(bootTarget, "boxrun@*.service"))
	if err != nil {
		return nil, fmt.Errorf("listing enabled boxes: %w", err)
	}
	return list.Map(links, filepath.Base), nil
}

// Files returns every existing file and directory enable may have made: units, settings for profiles, and the links
// to start units. Remains of a typed down or an enable cut short are included, and no directory with settings of an
// administrator's. The list is in an order fit for removal.
func Files() ([]string, error) {
	all := noStopFiles()
	for _, file := range slices.Clone(all) {
		if dir := filepath.Dir(file); strings.HasPrefix(filepath.Base(dir), "boxrun-") { // others: see below
			all = append(all, dir)
		}
	}
	for _, dir := range []string{Dir, unitRunDir} {
		for _, pattern := range []string{"*.wants/boxrun@*.service", "*.wants/boxrun-repair@*.service", "*.wants/boxrun-watch@*.service",
			"boxrun@*.service.d/profile.conf", files.Unfinished("boxrun@*.service.d/profile.conf"), "boxrun@*.service.d", templateUnit,
			repairTemplate, watchTemplate, files.Unfinished(templateUnit), files.Unfinished(repairTemplate), files.Unfinished(watchTemplate)} {
			found, err := filepath.Glob(filepath.Join(dir, pattern))
			if err != nil {
				return nil, fmt.Errorf("listing units: %w", err)
			}
			all = append(all, found...)
		}
	}
	known := slices.Clone(all)
	all = slices.DeleteFunc(all, func(path string) bool {
		return strings.HasSuffix(path, ".service.d") && holdsOthers(path, known)
	})
	return slices.Compact(all), nil
}

// holdsOthers reports whether a directory has a file that is not among known: an administrator's own settings for a box.
func holdsOthers(dir string, known []string) bool {
	entries, _ := os.ReadDir(dir) // what cannot be read is not removed either
	return slices.ContainsFunc(entries, func(e os.DirEntry) bool { return !slices.Contains(known, filepath.Join(dir, e.Name())) })
}
