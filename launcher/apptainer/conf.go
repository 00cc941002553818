package apptainer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Configuration returns the text of an apptainer.conf for boxrun, from site, the text of the site's own. Apptainer
// then looks for CNI networks in cniDir. On a host without systemd Apptainer also makes cgroups without asking
// systemd: otherwise a box would have no cgroup of its own, and two boxes would share a cgroup (setCgroups in
// internal/pkg/runtime/launch). All other directives stay as the site has set them.
func Configuration(site, cniDir string, systemdHost bool) string {
	conf := setDirective(site, "cni configuration path", cniDir)
	if !systemdHost {
		conf = setDirective(conf, "systemd cgroups", "no")
	}
	return conf
}

// setDirective returns conf, the text of an apptainer.conf, with the directive name set to value. The new line
// replaces the first line of the directive, or is appended where conf has no line of the directive. Later lines of
// the directive are dropped. Comments stay.
func setDirective(conf, name, value string) string {
	line := name + " = " + value + "\n"
	var b strings.Builder
	set := false
	for old := range strings.Lines(conf) {
		key, _, ok := strings.Cut(old, "=")
		switch {
		case !ok || strings.TrimSpace(key) != name:
			b.WriteString(old)
		case !set:
			b.WriteString(line)
			set = true
		}
	}
	if set {
		return b.String()
	}
	if conf != "" && !strings.HasSuffix(conf, "\n") {
		line = "\n" + line
	}
	return b.String() + line
}

// SiteConf returns the path of the configuration file of the apptainer at path: the file in etc beside the bin
// directory of the installation. Where this file does not exist, SiteConf returns what "apptainer buildcfg" answers.
// Links in path are followed first. The errors are those of reading the file system and of running apptainer.
func SiteConf(ctx context.Context, path string) (string, error) {
	binary, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", fmt.Errorf("looking for the site's apptainer.conf: %w", err)
	}
	conf := besideBin(binary)
	_, err = os.Stat(conf)
	if err == nil {
		return conf, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("looking for the site's apptainer.conf: %w", err)
	}
	out, err := exec.CommandContext(ctx, binary, "buildcfg", "APPTAINER_CONF_FILE").Output()
	if err != nil {
		return "", fmt.Errorf("looking for the site's apptainer.conf: running %s buildcfg APPTAINER_CONF_FILE: %w", binary, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// besideBin returns the default place of the configuration file for an apptainer at path: below PREFIX/etc, and below
// /etc where PREFIX is /usr.
func besideBin(path string) string {
	prefix := filepath.Dir(filepath.Dir(path))
	if prefix == "/usr" {
		prefix = "/"
	}
	return filepath.Join(prefix, "etc/apptainer/apptainer.conf")
}
