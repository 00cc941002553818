package site

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOverruled(t *testing.T) {
	const own = "net.ipv4.ip_forward = 1\nnet.ipv4.conf.all.rp_filter = 2\nnet.ipv4.conf.eth0.rp_filter = 2\n"
	const after = " at every boot, after /etc/sysctl.d/90-boxrun.conf\n"
	for name, test := range map[string]struct {
		files map[string]string
		want  string
	}{
		"no setup":   {map[string]string{"etc/sysctl.d/99-a.conf": "net.ipv4.ip_forward=0\n"}, ""},
		"no other":   {map[string]string{"etc/sysctl.d/90-boxrun.conf": own}, ""},
		"an earlier": {map[string]string{"etc/sysctl.d/90-boxrun.conf": own, "etc/sysctl.d/10-a.conf": "net.ipv4.ip_forward=0\n"}, ""},
		"a later": {map[string]string{"etc/sysctl.d/90-boxrun.conf": own, "etc/sysctl.d/99-hardening.conf": "# hard\n\n-net/ipv4/ip_forward = 0\nnet.ipv4.conf.all.rp_filter=1\n"},
			"/etc/sysctl.d/99-hardening.conf:3 sets net.ipv4.ip_forward to 0" + after + "/etc/sysctl.d/99-hardening.conf:4 sets net.ipv4.conf.all.rp_filter to 1" + after},
		"the same by another name": {map[string]string{"etc/sysctl.d/90-boxrun.conf": own, "usr/lib/sysctl.d/95-a.conf": "net.ipv4.conf.all.forwarding = 0\n"},
			"/usr/lib/sysctl.d/95-a.conf:1 sets net.ipv4.ip_forward to 0" + after},
		"the last of several": {map[string]string{"etc/sysctl.d/90-boxrun.conf": own, "etc/sysctl.d/95-a.conf": "net.ipv4.ip_forward=0\n",
			"run/sysctl.d/96-b.conf": "net.ipv4.ip_forward=1\n"}, ""},
		"hidden by one of its name": {map[string]string{"etc/sysctl.d/90-boxrun.conf": own, "usr/lib/sysctl.d/95-a.conf": "net.ipv4.ip_forward=0\n",
			"etc/sysctl.d/95-a.conf": "; nothing\n"}, ""},
		"what does no harm": {map[string]string{"etc/sysctl.d/90-boxrun.conf": own,
			"etc/sysctl.d/99-a.conf": "net.ipv4.conf.eth0.rp_filter = 0\nnet.ipv4.conf.*.rp_filter = 1\n#net.ipv4.ip_forward=0\nkernel.panic = 1\n"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := rootWith(t, test.files)
			if err := os.Symlink("/nowhere", filepath.Join(root, "etc/sysctl.d/98-link.conf")); err != nil {
				t.Fatal(err)
			}
			lines, err := Overruled(root, "etc/sysctl.d/90-boxrun.conf")
			got := ""
			for _, line := range lines {
				got += strings.ReplaceAll(line, root, "") + "\n"
			}
			if got != test.want || err != nil {
				t.Errorf("got:\n%s%v\nwant:\n%s", got, err, test.want)
			}
		})
	}
}

// rootWith returns a root with files, by their paths below.
func rootWith(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for file, text := range files {
		path := filepath.Join(root, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}
