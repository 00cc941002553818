package apptainer

import (
	"fmt"
	"os/exec"
	"strings"

	"boxrun/launcher/files"
)

// Installation is what apptainer reports about its build, and the site's configuration of Apptainer.
type Installation struct {
	Path     string
	Version  string
	ConfFile string
	Libexec  string
	SUID     bool
	site     map[string]string // directives of its configuration file
}

// ReadInstallation runs "apptainer buildcfg" and reads the configuration file named there. A missing configuration file
// is no error.
func ReadInstallation() (Installation, error) {
	path, err := Look()
	if err != nil {
		return Installation{}, err
	}
	out, err := exec.Command(path, "buildcfg").Output()
	if err != nil {
		return Installation{Path: path}, fmt.Errorf("running %s buildcfg: %w", path, err)
	}
	values := assignments(string(out))
	a := Installation{
		Path: path, Version: values["PACKAGE_VERSION"], ConfFile: values["APPTAINER_CONF_FILE"],
		Libexec: values["LIBEXECDIR"], SUID: values["APPTAINER_SUID_INSTALL"] == "1",
	}
	site, err := files.ReadIfThere(a.ConfFile)
	a.site = assignments(site)
	return a, err
}

// assignments reads lines of the form NAME = VALUE. If a name occurs several times, the last value counts. Comments
// are skipped.
func assignments(text string) map[string]string {
	values := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			values[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return values
}

// Setting returns the value of a directive in the site's apptainer.conf, or the default known to boxrun, else "".
func (a Installation) Setting(name string) string {
	if value, ok := a.site[name]; ok {
		return value
	}
	return map[string]string{"root default capabilities": "full"}[name]
}
