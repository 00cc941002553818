package apptainer

import (
	"strings"
	"testing"
)

// A hint is for the cause of a failed start, not for who told of the cause: many causes are told by a plugin.
func TestHint(t *testing.T) {
	for _, test := range []struct{ cause, image, want string }{
		{`plugin type="bridge" failed (add): failed to setup hairpin mode for veth044c1577: operation not supported`, "/srv/web", `"Name=!veth*"`},
		{`plugin type="bridge" failed (add): failed to find plugin "bridge" in path [/usr/lib/cni]`, "/srv/web", "containernetworking-plugins"},
		{"no /sbin/init in the image", "/srv/web", "systemd-sysv"},
		{"something else", "/srv/web", `"apptainer shell /srv/web"`},
		{"something else", "builtin:hello", "boxrun doctor"},
	} {
		if got := Hint(test.cause, test.image); !strings.Contains(got, test.want) {
			t.Errorf("%s: got %q, want it to have %q", test.cause, got, test.want)
		}
	}
}
