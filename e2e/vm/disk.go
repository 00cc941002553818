package vm

import (
	"context"
	_ "embed" // for the scripts
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"boxrun/e2e/testhost"
)

//go:embed disk.sh
var diskScript string

//go:embed stage.sh
var stageScript string

//go:embed init.sh
var initScript string

// bareInit tells the kernel to start the init of the stages in place of systemd.
const bareInit = "init=/usr/local/lib/stages/init"

// stageUnit runs a stage after the end of the boot.
const stageUnit = `[Unit]
Description=What a test does here
After=multi-user.target
[Service]
ExecStart=/bin/bash /usr/local/lib/stages/run
ExecStopPost=/bin/systemctl --no-block poweroff
`

// newDisk makes a disk in dir and returns the path of the kernel to boot. program is the file of boxrun, and stages are
// shell scripts by name. progress is called before steps that take long.
func newDisk(ctx context.Context, dir, program string, stages map[string]string, progress func(string)) (kernel string, err error) {
	host, web, err := testhost.VMRoots(ctx, progress)
	if err != nil {
		return "", err
	}
	files, work := filepath.Join(dir, "files"), filepath.Join(dir, "work")
	if err := os.Mkdir(work, 0o755); err != nil {
		return "", err
	}
	if err := stage(files, program, stages); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "unshare", "-m", "--propagation", "private",
		"sh", "-c", diskScript, "disk.sh", host, web, files, work, disk(dir))
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("making a disk: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return filepath.Join(host, "boot/vmlinuz"), os.RemoveAll(work)
}

// disk returns the path of the disk of the machine in dir.
func disk(dir string) string { return filepath.Join(dir, "disk.img") }

// stage writes into dir the files the disk has besides the root file systems.
func stage(dir, program string, stages map[string]string) error {
	const lib, units = "usr/local/lib/stages", "etc/systemd/system"
	files := map[string]string{
		"etc/hostname":              "host\n",
		"etc/hosts":                 "127.0.0.1 localhost host\n",
		"etc/machine-id":            "0123456789abcdef0123456789abcdef\n", // without an id every boot is the first
		lib + "/run":                stageScript,
		units + "/stage.service":    stageUnit,
		"etc/systemd/journald.conf": "[Journal]\nStorage=volatile\n",
	}
	for name, script := range stages {
		files[filepath.Join(lib, name+".sh")] = script
	}
	for name, text := range files {
		if err := write(filepath.Join(dir, name), strings.NewReader(text), 0o644); err != nil {
			return err
		}
	}
	wants := filepath.Join(dir, units, "multi-user.target.wants")
	if err := os.Mkdir(wants, 0o755); err != nil {
		return err
	}
	if err := os.Symlink("../stage.service", filepath.Join(wants, "stage.service")); err != nil {
		return err
	}
	if err := write(filepath.Join(dir, lib, "init"), strings.NewReader(initScript), 0o755); err != nil {
		return err
	}
	from, err := os.Open(program)
	if err != nil {
		return err
	}
	defer from.Close()
	return write(filepath.Join(dir, "usr/local/bin/boxrun"), from, 0o755)
}

// write makes a new file and the directories above. An existing file is an error.
func write(path string, content io.Reader, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, content); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
