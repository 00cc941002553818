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

	"boxrun/launcher/files"
)

// Configuration returns the text of an apptainer.conf for boxrun, from site, the text of the site's own, with the
// directives changed. All other directives stay as the site has set them.
func Configuration(site, cniDir string, systemdHost bool) string {
	for _, d := range directives(cniDir, systemdHost) {
		site = setDirective(site, d.name, d.value)
	}
	return site
}

// EditCommand returns a sed command that prints the text of Configuration for the file site: sed removes each directive,
// and appends boxrun's value.
func EditCommand(site, cniDir string, systemdHost bool) string {
	edit := "sed"
	for _, d := range directives(cniDir, systemdHost) {
		edit += " -e " + files.Quote("$a"+d.name+" = "+d.value) + " -e " + files.Quote("/^"+d.name+" *=/d")
	}
	return edit + " " + files.Quote(site)
}

type directive struct{ name, value string }

// directives returns what boxrun sets in an apptainer.conf. Apptainer then looks for CNI networks in cniDir, and binds no
// resolv.conf: boxrun binds one of its own, and Apptainer 1.5 would bind the host's, writable (addResolvConfMount). On a host
// without systemd Apptainer also makes cgroups without asking systemd: otherwise a box would have no cgroup of its own,
// and two boxes would share a cgroup (setCgroups in internal/pkg/runtime/launch).
func directives(cniDir string, systemdHost bool) []directive {
	set := []directive{{"cni configuration path", cniDir}, {"config resolv_conf", "no"}}
	if !systemdHost {
		set = append(set, directive{"systemd cgroups", "no"})
	}
	return set
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
