package confine

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"boxrun/launcher/files"
)

// systemd runs generators before it loads a unit: programs that write units for what they find on the machine. Most of
// them look for what no confined box has, and take longer together than systemd takes to load all units.

// useless are generators for disks, firmware, kernels and clouds, which are the host's, and for words on the kernel's
// command line, which a systemd in a container takes from its own, and a box gives none.
func useless() []string {
	return []string{
		"systemd-bless-boot-generator", "systemd-debug-generator", "systemd-factory-reset-generator",
		"systemd-gpt-auto-generator", "systemd-hibernate-resume-generator", "systemd-import-generator",
		"systemd-run-generator", "systemd-tpm2-generator",
		"cloud-init-generator", "kdump-dep-generator.sh", "selinux-autorelabel-generator.sh", "zram-generator",
	}
}

// readers are generators that do nothing where all of some files are missing, with these files.
func readers() map[string][]string {
	const mapper = "/dev/mapper/control" // makes disks of disks; a profile may add the device
	return map[string][]string{
		"systemd-cryptsetup-generator":     {mapper},
		"systemd-integritysetup-generator": {mapper},
		"systemd-veritysetup-generator":    {mapper},
		"lvm2-activation-generator":        {mapper},
		"systemd-getty-generator":          {"/dev/console"},
		"systemd-rc-local-generator":       {"/etc/rc.local", "/etc/rc.d/rc.local", "/etc/init.d/boot.local", "/etc/init.d/after.local"},
		"systemd-ssh-generator":            {"/usr/sbin/sshd", "/usr/bin/sshd", "/usr/lib/ssh/sshd"},
		"systemd-system-update-generator":  {"/system-update", "/etc/system-update"},
	}
}

// generatorMasks is where systemd looks for generators first.
const generatorMasks = "/run/systemd/system-generators"

// BootMasks returns the paths in a box of masks that hold for the boot alone. What these generators read, somebody may add
// to a box that runs: a mount, a package with a script of SysV init. From then on "systemctl daemon-reload" tells systemd.
func BootMasks() []string {
	return []string{generatorMasks + "/systemd-fstab-generator", generatorMasks + "/systemd-rc-local-generator", generatorMasks + "/systemd-sysv-generator"}
}

// maskGenerators keeps the box's systemd from generators with nothing to do. An image without systemd has no /run of boxrun's.
func maskGenerators() error {
	if !files.Exists("/run/systemd") {
		return nil
	}
	err := os.MkdirAll(generatorMasks, 0o755)
	for _, name := range idleGenerators("/") {
		err = errors.Join(err, os.Symlink("/dev/null", filepath.Join(generatorMasks, name)))
	}
	return err
}

// idleGenerators returns the generators of the image at root with nothing to do in a box. A generator of the
// administrator's own, instead of a packaged generator, is not on the list.
func idleGenerators(root string) []string {
	packaged := namesIn(root, "/usr/lib/systemd/system-generators", "/lib/systemd/system-generators")
	own := namesIn(root, "/etc/systemd/system-generators", "/usr/local/lib/systemd/system-generators")
	return slices.DeleteFunc(packaged, func(name string) bool { return slices.Contains(own, name) || !isIdle(root, name) })
}

// isIdle reports whether a generator has nothing to do in a box with the image at root.
func isIdle(root, generator string) bool {
	switch generator {
	case "systemd-fstab-generator":
		return !mountsMore(filepath.Join(root, "/etc/fstab"))
	case "systemd-sysv-generator":
		return !needsScripts(root)
	}
	if read, known := readers()[generator]; known {
		return !isAnyThere(root, read)
	}
	return slices.Contains(useless(), generator)
}

// mountsMore reports whether a file in the form of /etc/fstab may have a line beside comments.
func mountsMore(fstab string) bool {
	lines, err := mountLines(fstab)
	return len(lines) > 0 || err != nil
}

// mountLines returns the words of each line beside comments of a file in the form of /etc/fstab.
func mountLines(fstab string) (lines [][]string, err error) {
	const most = 1 << 20
	text, err := files.ReadSmall(fstab, most)
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) > 0 && words[0][0] != '#' {
			lines = append(lines, words)
		}
	}
	return lines, err
}

// needsScripts reports whether the image at root has a script of SysV init without a unit of the same name.
func needsScripts(root string) bool {
	for _, dir := range []string{"/etc/init.d", "/etc/rc.d/init.d"} {
		for _, name := range namesIn(root, dir) {
			var file unix.Stat_t
			path := filepath.Join(root, dir, name)
			script := unix.Stat(path, &file) == nil && file.Mode&unix.S_IFMT == unix.S_IFREG && file.Mode&0o100 != 0
			if script && !hasUnit(root, strings.TrimSuffix(name, ".sh")+".service") {
				return true
			}
		}
	}
	return false
}

// namesIn returns the names in directories below root, each name once. A directory that cannot be read is empty.
func namesIn(root string, dirs ...string) []string {
	var names []string
	for _, dir := range dirs {
		entries, _ := os.ReadDir(filepath.Join(root, dir))
		for _, e := range entries {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// isAnyThere reports whether one of paths below root is in its directory.
func isAnyThere(root string, paths []string) bool {
	return slices.ContainsFunc(paths, func(path string) bool { return isThere(filepath.Join(root, path)) })
}

// isThere reports whether a path is in its directory, wherever it leads.
func isThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
