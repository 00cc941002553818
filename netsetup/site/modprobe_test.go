package site

import "testing"

func TestWithheld(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		want  string
	}{
		"no files":                  {nil, ""},
		"as CIS has it":             {map[string]string{"etc/modprobe.d/cis.conf": "# unused\n\ninstall  sctp\t/bin/true\n"}, "/etc/modprobe.d/cis.conf:3: install sctp /bin/true"},
		"false":                     {map[string]string{"usr/lib/modprobe.d/a.conf": "install sctp /usr/bin/false"}, "/usr/lib/modprobe.d/a.conf:1: install sctp /usr/bin/false"},
		"another module":            {map[string]string{"etc/modprobe.d/a.conf": "install dccp /bin/true\ninstall sctp_diag /bin/true\n"}, ""},
		"one that loads":            {map[string]string{"etc/modprobe.d/a.conf": "install sctp /sbin/modprobe --ignore-install sctp && logger sctp\n"}, ""},
		"a blacklist":               {map[string]string{"etc/modprobe.d/a.conf": "blacklist sctp\n#install sctp /bin/true\n"}, ""},
		"hidden by one of its name": {map[string]string{"etc/modprobe.d/a.conf": "\n", "lib/modprobe.d/a.conf": "install sctp /bin/true\n"}, ""},
	} {
		got, err := Withheld(rootWith(t, test.files), "sctp")
		if err != nil || got != test.want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, test.want)
		}
	}
}
