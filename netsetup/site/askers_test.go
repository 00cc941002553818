package site

import "testing"

// A running dhcpcd for all devices, or ConnMan, asks on each device but those in its file.
func TestAskers(t *testing.T) {
	files := func(more ...string) map[string]string {
		all := map[string]string{}
		for i := 0; i+1 < len(more); i += 2 {
			all[more[i]] = more[i+1]
		}
		return all
	}
	const running, pid, conf, main = "proc/77/comm", "run/dhcpcd/pid", "etc/dhcpcd.conf", "etc/connman/main.conf"
	const connMan = "run/systemd/units/invocation:connman.service"
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"neither":                       {nil, ""},
		"dhcpcd, without a file":        {files(pid, "77\n", running, "dhcpcd\n"), "dhcpcd"},
		"of a pid that went":            {files(pid, "77\n"), ""},
		"of a pid that another has":     {files(pid, "77\n", running, "bash\n"), ""},
		"for a device":                  {files("run/dhcpcd/lan0.pid", "77\n", running, "dhcpcd\n"), ""},
		"denied":                        {files(pid, "77\n", running, "dhcpcd\n", conf, "duid\ndenyinterfaces docker*, veth*\n"), ""},
		"denied in a block":             {files(pid, "77\n", running, "dhcpcd\n", conf, "interface eth0\nstatic ip_address=192.0.2.1/24\ndenyinterfaces veth*\n"), "dhcpcd"},
		"others denied":                 {files(pid, "77\n", running, "dhcpcd\n", conf, "denyinterfaces docker*\n"), "dhcpcd"},
		"others allowed":                {files(pid, "77\n", running, "dhcpcd\n", conf, "allowinterfaces eth*\n"), ""},
		"allowed, and denied":           {files(pid, "77\n", running, "dhcpcd\n", conf, "allowinterfaces eth* veth*\ndenyinterfaces veth*\n"), ""},
		"ConnMan, without a file":       {files(connMan, "x"), "ConnMan"},
		"ConnMan, told":                 {files(connMan, "x", main, "[General]\nNetworkInterfaceBlacklist = vmnet, veth\n"), ""},
		"ConnMan, told of others":       {files(connMan, "x", main, "[General]\nNetworkInterfaceBlacklist=vmnet,ve-\n"), "ConnMan"},
		"ConnMan, told in another part": {files(connMan, "x", main, "[Other]\nNetworkInterfaceBlacklist=veth\n"), "ConnMan"},
	} {
		t.Run(name, func(t *testing.T) {
			askers, err := Askers(hostOf(t, c.files), "veth1d7ddaa3", "sbr0")
			got := ""
			for _, a := range askers {
				got += a.Program
			}
			if got != c.want || err != nil {
				t.Errorf("got %q and %v, want %q", got, err, c.want)
			}
		})
	}
}
