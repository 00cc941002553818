package site

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTakes has hosts with files of networkd's, and asks who gets the veth of a box.
func TestTakes(t *testing.T) {
	const first, last = "etc/systemd/network/00-all.network", "etc/systemd/network/50-all.network"
	const own = "00-own.network"
	for name, test := range map[string]struct {
		files map[string]string
		want  string
	}{
		"none":               {nil, ""},
		"all":                {map[string]string{first: "[Match]\nName=*\n"}, "/" + first},
		"after boxrun's":     {map[string]string{last: "[Match]\nName=*\n"}, ""},
		"all but one":        {map[string]string{first: "[Match]\nType=ether\nName=!eth0\n"}, "/" + first},
		"all but veths":      {map[string]string{first: "[Match]\nType=ether\nName=!eth0 veth*\n"}, ""},
		"in two lines":       {map[string]string{first: "[Match]\nName=!eth0\nName=veth*\n"}, ""},
		"begun anew":         {map[string]string{first: "[Match]\nName=!veth*\nName=\nName=v*\n"}, "/" + first},
		"a bridge":           {map[string]string{first: "[Match]\nKind=bridge\n"}, ""},
		"a veth":             {map[string]string{first: "[Match]\nKind=veth vlan\n"}, "/" + first},
		"a driver":           {map[string]string{first: "[Match]\nDriver=ve*\n"}, "/" + first},
		"a set":              {map[string]string{first: "[Match]\nName=[!e]*\n"}, "/" + first},
		"no match":           {map[string]string{first: "[Network]\nDHCP=yes\n"}, ""},
		"an empty match":     {map[string]string{first: "[Match]\n[Network]\nDHCP=yes\n"}, ""},
		"an address":         {map[string]string{first: "[Match]\nName=*\nMACAddress=02:00:00:00:00:01\n"}, ""},
		"left alone":         {map[string]string{first: "[Match]\nName=*\n[Link]\nUnmanaged=yes\n"}, ""},
		"left on its bridge": {map[string]string{first: "[Match]\nName=*\n[Network]\nKeepMaster=yes\n"}, ""},
		"left alone before":  {map[string]string{"run/systemd/network/00-a.network": "[Match]\nName=veth*\n[Link]\nUnmanaged=on\n", first: "[Match]\nName=*\n"}, ""},
		"hidden by another":  {map[string]string{first: "", "usr/lib/systemd/network/00-all.network": "[Match]\nName=*\n"}, ""},
		"hides another":      {map[string]string{first: "[Match]\nName=*\n", "usr/lib/systemd/network/00-all.network": ""}, "/" + first},
		"of the vendor":      {map[string]string{"usr/lib/systemd/network/00-a.network": "# all\n[Match]\nName = veth*\n"}, "/usr/lib/systemd/network/00-a.network"},
		"a stray line":       {map[string]string{first: "[Match]\nthis is no option\nName=*\n"}, "/" + first},
		"a long line":        {map[string]string{first: "[Match]\nName=!" + strings.Repeat("eth0 ", 1000) + "\n"}, "/" + first},
		"a continued line":   {map[string]string{first: "[Match]\nName=!eth0 \\\n# not for boxes\n  veth*\n"}, ""},
		"less by a drop-in":  {map[string]string{first: "[Match]\nType=ether\n", first + ".d/x.conf": "[Match]\nName=!veth*\n"}, ""},
		"no file of systemd": {map[string]string{first: "Name=*\n"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := hostOf(t, test.files)
			veth := Device{Name: "veth0123abcd", Type: "ether", Kind: "veth"}
			ask := func() string {
				got, err := Takes(root, veth, own)
				if err != nil {
					t.Error(err)
				}
				return got
			}
			if got := ask(); got != "" {
				t.Errorf("without networkd: %q", got)
			}
			if err := os.MkdirAll(filepath.Join(root, "run/systemd/netif"), 0o755); err != nil {
				t.Fatal(err)
			}
			if got := ask(); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// The first file of udev's that fits a device counts, as systemd.link(5) says.
func TestRenames(t *testing.T) {
	const site = "etc/systemd/network/10-site.link"
	const veths = "[Match]\nOriginalName=veth*\n[Link]\nName=site0\n"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"none", nil, ""},
		{"by the name", map[string]string{site: veths}, "/" + site},
		{"by the driver", map[string]string{site: "[Match]\nDriver=veth\n[Link]\nMACAddressPolicy=none\nName=site0\n"}, "/" + site},
		{"of other devices", map[string]string{site: "[Match]\nOriginalName=eth*\n[Link]\nName=site0\n"}, ""},
		{"by an address", map[string]string{site: "[Match]\nMACAddress=02:00:00:00:00:01\n[Link]\nName=site0\n"}, ""},
		{"after a file that leaves the name", map[string]string{site: veths, "etc/systemd/network/00-boxrun.link": "[Match]\nOriginalName=veth????????\n[Link]\nNamePolicy=keep\n"}, ""},
		{"in a drop-in", map[string]string{"usr/lib/systemd/network/99-default.link": "[Match]\nOriginalName=*\n[Link]\nNamePolicy=keep path\n",
			"etc/systemd/network/99-default.link.d/site.conf": "[Link]\nName=site0\nNamePolicy=path\n"}, "/usr/lib/systemd/network/99-default.link"},
		{"with a policy that keeps names", map[string]string{site: veths + "NamePolicy=keep\n"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := map[string]string{"run/udev/control": ""}
			maps.Copy(files, c.files)
			root := hostOf(t, files)
			links, err := ReadLinks(root)
			if got := links.Rename(Device{Name: "veth00000000", Type: "ether", Kind: "veth"}); got != c.want || err != nil {
				t.Errorf("got %q %v, want %q", got, err, c.want)
			}
		})
	}
}
