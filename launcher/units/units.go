package units

import (
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
	"boxrun/launcher/process"
	"boxrun/profiles"
)

// Booted reports whether systemd runs the host, by the test of sd_booted(3).
func Booted() bool {
	_, err := os.Stat("/run/systemd/system")
	return err == nil
}

// The units of boxrun. On a host that systemd runs, every box lives in one of two services:
//
//	boxrun-NAME.service   transient: made by the "boxrun up" that started it, gone with the box (transient.go)
//	boxrun@NAME.service   of a box that "boxrun enable" has start at boot; it also watches one that was started by hand
//
// and more put rules back that a firewall took away (units_heal.go):
//
//	boxrun-repair@FIREWALL.service   runs "boxrun repair" whenever that service was started, restarted or reloaded
//	boxrun-watch@firewalld.service   does so whenever firewalld says on D-Bus that it was reloaded, which is no job of systemd's
//
// There is one of the former for each firewall, as some conflict: firewalld's start stops nftables, and one unit that is
// part of both would be told to start and to stop at once, for which systemd refuses the start of firewalld.

//go:embed boxrun@.service
var templateText string

//go:embed profile.conf
var profileText string

//go:embed boxrun-repair@.service
var repairText string

//go:embed boxrun-watch@.service
var watchText string

const (
	UnitDir        = "/etc/systemd/system" // where enabled units are
	unitRunDir     = "/run/systemd/system" // what a running box still needs after its disable; the next boot empties it
	templateUnit   = "boxrun@.service"
	repairTemplate = "boxrun-repair@.service"
	watchTemplate  = "boxrun-watch@.service" // its @ keeps it apart from the service of a box named watch
	WatchUnit      = "boxrun-watch@firewalld.service"
	bootTarget     = "multi-user.target"
)

// firewalls gives the services that flush or replace rules.
func firewalls() []string {
	return []string{"nftables.service", "iptables.service", "ufw.service", "netfilter-persistent.service",
		"firewalld.service", "docker.service"}
}

// repairUnit is the service that repairs after a firewall.
func repairUnit(firewall string) string { return "boxrun-repair@" + firewall }

// HealingUnits gives the services that put rules back.
func HealingUnits() []string {
	units := []string{WatchUnit}
	for _, firewall := range firewalls() {
		units = append(units, repairUnit(firewall))
	}
	return units
}

// startedBefore gives what a box is started after, and so stopped before: it needs the network, D-Bus (by which
// Apptainer makes and ends its scope), and what is mounted from elsewhere. A firewall that starts later takes rules away.
func startedBefore() []string {
	return append([]string{"network-online.target", "remote-fs.target", "dbus.service"}, firewalls()...)
}

// TransientUnit is the service in which Apptainer runs for a box that was started by hand.
func TransientUnit(box string) string { return "boxrun-" + box + ".service" }

// InstanceUnit is the service of a box that is enabled. Its instance is what "boxrun up" takes: NAME or NAME@INSTANCE.
func InstanceUnit(p profiles.Profile) string {
	return instanceOf(p.Word())
}

// instanceOf is the same of what profiles.Word gives: what enable made of it, whether there still is such a profile or not.
func instanceOf(word string) string { return "boxrun@" + word + ".service" }

// unitsOf gives the services that may hold or watch the box.
func unitsOf(b *box.Box) []string { return []string{TransientUnit(b.Name), InstanceUnit(b.Profile)} }

// UnitIsOf says whether a service is one of the box named.
func UnitIsOf(unit, box string) bool {
	arg, ok := strings.CutPrefix(strings.TrimSuffix(unit, ".service"), "boxrun@")
	return unit == TransientUnit(box) || ok && profiles.BoxName(arg) == box
}

// OwnUnit gives the service of boxrun's that this process was started in; "" where it is none of them.
func OwnUnit() string { return UnitOf(os.Getpid()) }

// UnitOf gives the service of boxrun's that a process is in; "" where it is none of them.
func UnitOf(pid int) string {
	text, err := os.ReadFile(process.ProcFile(pid, "cgroup"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		unit := path.Base(strings.TrimSpace(line))
		if strings.HasPrefix(unit, "boxrun") && strings.HasSuffix(unit, ".service") {
			return unit
		}
	}
	return ""
}

// RunBySystemd says whether systemd runs this boxrun for a box that is enabled: no person is there.
func RunBySystemd() bool { return strings.HasPrefix(OwnUnit(), "boxrun@") }

// stopGrace is how much longer than the box itself its service may take to stop: for Apptainer and boxrun to clean up.
const stopGrace = 30 * time.Second

// BootTimeout is how long Apptainer may take to start the box: as long as it may take to be ready, but on a slow disk that
// is no measure where it is short. What is not ready in time stays up, what has not started goes.
func BootTimeout(p profiles.Profile) time.Duration { return max(p.Ready.Timeout, time.Minute) }

// startGrace is how long a start may take beside the two waits for the box, to boot and to be ready: for the lock, and
// for what it depends on.
const startGrace = time.Minute

// unitFile is a file of systemd's that boxrun writes.
type unitFile struct{ path, text string }

// sharedUnits gives the units that all enabled boxes share, below dir.
func sharedUnits(s *box.Store, dir string) ([]unitFile, error) {
	exe, err := unitPath(s.Exe)
	if err != nil {
		return nil, err
	}
	fill := strings.NewReplacer(
		"@BOXRUN@", exe,
		"@AFTER@", strings.Join(startedBefore(), " "),
	)
	return []unitFile{
		{filepath.Join(dir, templateUnit), fill.Replace(templateText)},
		{filepath.Join(dir, repairTemplate), fill.Replace(repairText)},
		{filepath.Join(dir, watchTemplate), fill.Replace(watchText)},
	}, nil
}

// plainPaths are those that mean the same in a unit as anywhere.
var plainPaths = regexp.MustCompile(`^/[A-Za-z0-9/._+-]+$`)

// unitPath refuses an executable whose path systemd would read otherwise.
func unitPath(exe string) (string, error) {
	if !plainPaths.MatchString(exe) {
		return "", fault.Refused("install it as /usr/local/bin/boxrun", "boxrun's own path %q cannot be written in a unit", exe)
	}
	return exe, nil
}

// dropIn gives what boxrun@.service is told of one profile.
func dropIn(dir string, p profiles.Profile) unitFile {
	fill := strings.NewReplacer(
		"@FILE@", p.File,
		"@AFTER@", strings.Join(dependencyUnits(p), " "),
		"@MOUNTS@", strings.Join(quotedPaths(p), " "),
		"@START@", wholeSeconds(2*BootTimeout(p)+startGrace),
		"@STOP@", wholeSeconds(p.Systemd.StopTimeout+stopGrace),
		"@RESTART@", p.Systemd.Restart,
	)
	return unitFile{dropInPath(dir, InstanceUnit(p)), withoutEmpty(fill.Replace(profileText))}
}

func dropInPath(dir, unit string) string { return filepath.Join(dir, unit+".d", "profile.conf") }

// withoutEmpty drops settings without a value.
func withoutEmpty(text string) string {
	var kept strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasSuffix(line, "=\n") {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

// dependencyUnits gives the services of the boxes that the profile depends on: they are started before, and stopped
// after it, however they were started.
func dependencyUnits(p profiles.Profile) []string {
	var units []string
	for _, arg := range p.DependsOn {
		units = append(units, instanceOf(arg), TransientUnit(profiles.BoxName(arg)))
	}
	return units
}

// mountedPaths gives the paths of the host that the box lives on.
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

// quotedPaths gives mountedPaths as systemd reads them back: quoted, and with no specifiers.
func quotedPaths(p profiles.Profile) []string {
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%")
	var quoted []string
	for _, path := range mountedPaths(p) {
		quoted = append(quoted, `"`+quote.Replace(path)+`"`)
	}
	return quoted
}

// wholeSeconds gives a time in seconds, rounded up.
func wholeSeconds(d time.Duration) string {
	return strconv.Itoa(int((d + time.Second - 1) / time.Second))
}

// wantsLink is what makes systemd start a unit with another one.
func wantsLink(by, unit string) string { return filepath.Join(UnitDir, by+".wants", unit) }

// EnabledAs gives the profile, as NAME or NAME@INSTANCE, that is started at boot as the box named: one of the host's, whatever
// the box was started from that is up now. "" where there is none.
func EnabledAs(box string) string {
	enabled, _ := enabledUnits() // the pattern is well-formed
	for _, unit := range enabled {
		if UnitIsOf(unit, box) {
			return strings.TrimSuffix(strings.TrimPrefix(unit, "boxrun@"), ".service")
		}
	}
	return ""
}

// Enabled says whether the profile is started at boot. One that a person keeps elsewhere is not, though one of the host's may
// have the same name.
func Enabled(p profiles.Profile) bool {
	ofHost := slices.Contains(profiles.OfHost().Dirs, filepath.Dir(p.File)) || strings.HasPrefix(p.File, "builtin:")
	if !ofHost {
		return false
	}
	return startedAtBoot(InstanceUnit(p))
}

func startedAtBoot(unit string) bool {
	_, err := os.Lstat(wantsLink(bootTarget, unit))
	return err == nil
}

// enabledUnits gives the names of the instances that are started at boot.
func enabledUnits() ([]string, error) {
	links, err := filepath.Glob(wantsLink(bootTarget, "boxrun@*.service"))
	if err != nil {
		return nil, fmt.Errorf("listing enabled boxes: %w", err)
	}
	for i, link := range links {
		links[i] = filepath.Base(link)
	}
	return links, nil
}

// UnitFiles gives every file and directory that enable may have made: units, what they are told of profiles, and the
// links that start them; and what a typed down that was cut short has left. Those that are there are listed in an order in
// which they can be removed.
func UnitFiles() ([]string, error) {
	all := noStopFiles()
	for _, file := range slices.Clone(all) {
		if dir := filepath.Dir(file); strings.HasPrefix(filepath.Base(dir), "boxrun-") { // the others are below
			all = append(all, dir)
		}
	}
	for _, dir := range []string{UnitDir, unitRunDir} {
		for _, pattern := range []string{"*.wants/boxrun@*.service", "*.wants/boxrun-repair@*.service", "*.wants/" + WatchUnit,
			"boxrun@*.service.d/profile.conf", "boxrun@*.service.d", templateUnit, repairTemplate, watchTemplate} {
			files, err := filepath.Glob(filepath.Join(dir, pattern))
			if err != nil {
				return nil, fmt.Errorf("listing units: %w", err)
			}
			all = append(all, files...)
		}
	}
	return slices.Compact(all), nil
}
