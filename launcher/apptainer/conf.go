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

// Configuration gives the site's apptainer.conf with CNI networks looked for in cniDir and, where the host is not run by
// systemd, with cgroups made without asking one: else a box would have none of its own, and two boxes would share one
// (setCgroups in internal/pkg/runtime/launch). All else is as the site has it.
func Configuration(site, cniDir string, systemdHost bool) string {
	conf := setDirective(site, "cni configuration path", cniDir)
	if !systemdHost {
		conf = setDirective(conf, "systemd cgroups", "no")
	}
	return conf
}

// setDirective sets a directive of an apptainer.conf, where its first line stood or, if it had none, at the end. Later
// lines of it are dropped, comments stay.
func setDirective(conf, name, value string) string {
	line := name + " = " + value + "\n"
	var b strings.Builder
	set := false
	for old := range strings.Lines(conf) {
		key, _, ok := strings.Cut(old, "=")
		if !ok || strings.TrimSpace(key) != name {
			b.WriteString(old)
			continue
		}
		if !set {
			b.WriteString(line)
			set = true
		}
	}
	if set {
		return b.String()
	}
	if conf != "" && !strings.HasSuffix(conf, "\n") {
		b.WriteString("\n")
	}
	b.WriteString(line)
	return b.String()
}

// SiteConf gives the path of the configuration file of the apptainer at path: beside its installation's bin, in etc;
// where it is not there, whatever it says itself.
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

// besideBin gives where an apptainer at path is configured by default: PREFIX/etc, and /etc where PREFIX is /usr.
func besideBin(path string) string {
	prefix := filepath.Dir(filepath.Dir(path))
	if prefix == "/usr" {
		prefix = "/"
	}
	return filepath.Join(prefix, "etc/apptainer/apptainer.conf")
}
