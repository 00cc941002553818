package netsetup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"boxrun/netsetup/offload"
)

// Setup is what the plan that lasts over reboots depends on. Whatever boxes need is set by "up" as well. The plan sets
// the same before any boxrun has run, and lets others who manage the host know.
type Setup struct {
	Etc       string    // /etc
	Bridges   []Network // of these the names and Offload count
	Devices   []string  // of the IPv4 default routes
	Legacy    bool      // iptables has the legacy backend: tables are kernel modules
	Ethtool   string    // path of ethtool(8), "" where not installed
	Firewalld bool      // firewalld is installed
	Inotify   bool      // root needs more inotify instances for many boxes
	Zoned     []string  // bridges for firewalld's zone, without those in another zone by the administrator's wish
}

// The files below Etc. Their names never change: what an older boxrun wrote is found by them.
const (
	SysctlFile   = "sysctl.d/90-boxrun.conf"
	modulesFile  = "modules-load.d/boxrun.conf"
	udevFile     = "udev/rules.d/90-boxrun.rules"
	zoneFile     = "firewalld/zones/" + zoneName + ".xml"
	policyFile   = "firewalld/policies/" + policyName + ".xml"
	setupComment = "# " + setupMark + "; \"boxrun host reset\" removes it.\n"
)

// LookSetup looks up what a Setup depends on.
func LookSetup(k *Kernel, etc string, bridges []Network) (Setup, error) {
	s := Setup{Etc: etc, Bridges: bridges, Firewalld: hasFirewalld(etc)}
	var err, legacyErr, lookErr, zonesErr error
	s.Zoned, zonesErr = unzoned(etc, bridges)
	s.Inotify = fewInstances()
	s.Devices, err = k.defaultDevices()
	s.Legacy, legacyErr = legacy(v4)
	s.Ethtool, lookErr = exec.LookPath("ethtool")
	return s, errors.Join(err, legacyErr, ignore(lookErr, exec.ErrNotFound), zonesErr)
}

// hasFirewalld reports whether firewalld is installed: its package brings both directories.
func hasFirewalld(etc string) bool {
	return isDir(filepath.Join(etc, filepath.Dir(zoneFile))) && isDir(filepath.Join(etc, filepath.Dir(policyFile)))
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// Plan plans the setup. A missing directory stays missing: nothing reads the directory on this host.
func (s Setup) Plan() Plan {
	p := Plan{Owner: "boxrun:setup", Sysctls: s.sysctls(), Modules: s.modules()}
	for _, f := range s.files() {
		if isDir(filepath.Dir(f.Path)) {
			p.Files = append(p.Files, f)
		}
	}
	if s.Firewalld {
		zone, policy := s.file(zoneFile, zoneText(s.Zoned)), s.file(policyFile, policyText())
		p.Firewalld = &PermanentZone{Zone: zone, Policy: policy, Bridges: s.Zoned}
	}
	return p
}

// Deeds returns a line for each thing Apply will do, in the past tense, none where all is in place. It never writes.
// The plan must be recorded just before, so that the lines can tell what was there.
func (p Plan) Deeds(k *Kernel) ([]string, error) {
	var deeds []string
	err := eachDrifted(k, "checking", p.steps(), func(s step, _ []string) error {
		deeds = append(deeds, deed(s))
		return nil
	})
	return deeds, err
}

// deed says what the ensure of a step does where the step is not in place.
func deed(s step) string {
	switch s := s.(type) {
	case *File:
		switch {
		case s.Text == "":
			return "removed " + s.Path
		case s.Before != nil:
			return "wrote " + s.Path + " anew"
		}
		return "wrote " + s.Path
	case *Modules:
		return "loaded the " + s.String()
	case *Sysctl:
		if len(s.Before) > 0 {
			return fmt.Sprintf("set %v to %s (it was %s)", s, s.Value, s.Before[0].Value)
		}
	}
	return fmt.Sprintf("set up %v", s)
}

// Missing returns a line for each thing that cannot be kept over reboots on this host. Boxes work without them.
func (s Setup) Missing() []string {
	var missing []string
	for _, name := range []string{SysctlFile, modulesFile, udevFile} {
		if dir := filepath.Join(s.Etc, filepath.Dir(name)); !isDir(dir) {
			missing = append(missing, fmt.Sprintf("%s is not written, as there is no %s", filepath.Join(s.Etc, name), dir))
		}
	}
	if s.Ethtool == "" && slices.ContainsFunc(s.Bridges, func(n Network) bool { return n.Offload.In() }) {
		missing = append(missing, filepath.Join(s.Etc, udevFile)+
			" is not written, as ethtool is not installed: up turns offload off by itself")
	}
	return missing
}

func (s Setup) file(name, text string) File {
	return File{Path: filepath.Join(s.Etc, name), Text: text}
}

// files returns the files read at boot. Udev's has no text where there is nothing to turn off.
func (s Setup) files() []File {
	return []File{s.file(SysctlFile, s.sysctlText()), s.file(modulesFile, s.modulesText()), s.file(udevFile, s.udevText())}
}

// sysctls are the settings of the whole host that boxes need. Reverse path filtering is set to loose for all devices,
// for devices to come and for the device that leads out, as the greater of a device's own value and the value for all
// is in force.
func (s Setup) sysctls() []Sysctl {
	list := []Sysctl{forwarding()}
	for _, device := range append([]string{"all", "default"}, s.Devices...) {
		list = append(list, Sysctl{Key: deviceKey(device, "rp_filter"), Value: "2"})
	}
	if s.Inotify {
		list = append(list, Sysctl{Key: instancesKey, Value: strconv.Itoa(instances)})
	}
	return list
}

// Each user may have so many inotify instances: enough for 100 boxes, whose roots are one user. A greater number that
// somebody else has set stays.
const (
	instancesKey = "fs.inotify.max_user_instances"
	instances    = 1024
)

// fewInstances reports whether the number is this setup's to set. A kernel without inotify has no such number.
func fewInstances() bool {
	text, err := readSysctl(instancesKey)
	n, numberErr := strconv.Atoi(text)
	return err == nil && numberErr == nil && n <= instances
}

func (s Setup) sysctlText() string {
	const why = "# The host forwards for boxes, and takes packets by another way than their answers go.\n" +
		"# Root of all boxes is one user of the host.\n"
	text := setupComment + why
	for _, setting := range s.sysctls() {
		text += fmt.Sprintf("%s = %s\n", setting.Key, setting.Value)
	}
	return text
}

// modules leaves out the modules of the legacy backend where the host has the other backend.
func (s Setup) modules() []Modules {
	return slices.DeleteFunc(hostModules(), func(m Modules) bool { return m.Legacy && !s.Legacy })
}

func (s Setup) modulesText() string {
	text := setupComment
	for _, m := range s.modules() {
		text += strings.Join(m.Names, "\n") + "\n"
	}
	return text
}

// udevText returns a rule for each bridge whose offload is turned off; "" where there is none. Rules go by names: a
// bridge made by hand, or by the host's own configuration at boot, has no mark of boxrun's.
func (s Setup) udevText() string {
	const why = "# Some network cards drop forwarded packets whose checksum a virtual device left to them.\n"
	lines := ""
	for _, n := range s.Bridges {
		if n.Offload.In() && s.Ethtool != "" {
			lines += fmt.Sprintf(`ACTION=="add", SUBSYSTEM=="net", ENV{DEVTYPE}=="bridge", KERNEL=="%s", `+
				`RUN+="%s -K $name %s"`+"\n", n.Bridge, s.Ethtool, offload.Everything().Typed)
		}
	}
	if lines == "" {
		return ""
	}
	return setupComment + why + lines
}

// unzoned returns the bridges outside all other zones of firewalld's permanent configuration.
func unzoned(etc string, bridges []Network) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(etc, "firewalld/zones/*.xml"))
	if err != nil {
		return nil, err
	}
	var zones strings.Builder
	for _, file := range files {
		if file == filepath.Join(etc, zoneFile) {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		zones.Write(text)
	}
	var names []string
	for _, n := range bridges {
		if !strings.Contains(zones.String(), fmt.Sprintf("<interface name=%q", n.Bridge)) {
			names = append(names, n.Bridge)
		}
	}
	return names, nil
}

// SetupFiles returns the files of a setup below etc: the files with boxrun's mark.
func SetupFiles(etc string) ([]string, error) {
	var found []string
	for _, f := range allSetupFiles(etc) {
		if _, err := f.read(); err == nil {
			found = append(found, f.Path)
		} else if errors.Is(err, fs.ErrPermission) {
			return found, err
		}
	}
	return found, nil
}

func allSetupFiles(etc string) []File {
	var files []File
	for _, name := range []string{SysctlFile, modulesFile, udevFile, zoneFile, policyFile} {
		files = append(files, File{Path: filepath.Join(etc, name)})
	}
	return files
}

// SetupRemoval returns a plan only for Undo: every file a setup may have left below etc, and what firewalld took from
// the files.
func SetupRemoval(etc string) Plan {
	files := allSetupFiles(etc)
	return Plan{
		Owner:     "boxrun:setup",
		Files:     files[:3],
		Firewalld: &PermanentZone{Zone: files[3], Policy: files[4]},
	}
}
