package apptainer

import (
	"os"
	"path/filepath"
	"testing"

	"boxrun/launcher/testkit"
)

func TestApptainerConf(t *testing.T) {
	const site = `# SYSTEMD CGROUPS: [BOOL]
systemd cgroups = yes
# cni configuration path = /etc/cni
bind path = /etc/localtime
bind path = /etc/hosts
#cni configuration path =
`
	const cni, names = "cni configuration path = /run/boxrun/cni\n", "config resolv_conf = no\n"
	for name, test := range map[string]struct {
		site    string
		systemd bool
		want    string
	}{
		"as it is shipped":   {site, true, site + cni + names},
		"with a resolv.conf": {"config resolv_conf = yes\na = b\n", true, names + "a = b\n" + cni},
		"on a host without systemd": {site, false, `# SYSTEMD CGROUPS: [BOOL]
systemd cgroups = no
# cni configuration path = /etc/cni
bind path = /etc/localtime
bind path = /etc/hosts
#cni configuration path =
` + cni + names},
		"with a path of the site's": {"a = b\n  cni configuration path=/etc/site\nbind path = /x\n", true,
			"a = b\n" + cni + "bind path = /x\n" + names},
		"with two, of which Apptainer takes the first": {"cni configuration path = /a\nx = y\ncni configuration path = /b\n", true,
			cni + "x = y\n" + names},
		"with a like name":       {"cni configuration path2 = /a\n", true, "cni configuration path2 = /a\n" + cni + names},
		"without a last newline": {"a = b", true, "a = b\n" + cni + names},
		"empty":                  {"", false, cni + names + "systemd cgroups = no\n"},
		"of another line ending": {"cni configuration path = /a\r\nx = y\r\n", true, cni + "x = y\r\n" + names},
	} {
		t.Run(name, func(t *testing.T) {
			got := Configuration(test.site, "/run/boxrun/cni", test.systemd)
			testkit.WantText(t, got, test.want)
			testkit.WantText(t, Configuration(got, "/run/boxrun/cni", test.systemd), test.want) // twice is as good as once
		})
	}
}

func TestBesideBin(t *testing.T) {
	for path, want := range map[string]string{
		"/usr/bin/apptainer":           "/etc/apptainer/apptainer.conf",
		"/usr/local/bin/apptainer":     "/usr/local/etc/apptainer/apptainer.conf",
		"/opt/apptainer/bin/apptainer": "/opt/apptainer/etc/apptainer/apptainer.conf",
		"/bin/apptainer":               "/etc/apptainer/apptainer.conf",
	} {
		testkit.WantText(t, besideBin(path), want)
	}
}

func TestSiteConf(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "opt/bin/apptainer")
	link := filepath.Join(dir, "apptainer")
	for _, path := range []string{filepath.Dir(binary), filepath.Join(dir, "opt/etc/apptainer")} {
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	script := "#!/bin/sh\n[ \"$*\" = 'buildcfg APPTAINER_CONF_FILE' ] && echo /where/it/was/built\n"
	if err := os.WriteFile(binary, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(binary, link); err != nil {
		t.Fatal(err)
	}
	find := func(want string) {
		t.Helper()
		got, err := SiteConf(t.Context(), link)
		if err != nil {
			t.Fatal(err)
		}
		testkit.WantText(t, got, want)
	}
	find("/where/it/was/built")
	beside := filepath.Join(dir, "opt/etc/apptainer/apptainer.conf")
	if err := os.WriteFile(beside, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	find(beside)
	if _, err := SiteConf(t.Context(), filepath.Join(dir, "none")); err == nil {
		t.Error("no apptainer: no error")
	}
}
