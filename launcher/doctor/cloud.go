package doctor

import (
	"fmt"
	"slices"
	"strings"

	"boxrun/launcher/box"
	"boxrun/netsetup/site"
)

// hintCloud adds a check for each box with ports and without failures, if the host is a machine in a cloud. A cloud
// filters packets before they reach the machine, and no look from inside the machine can see this.
func (f *facts) hintCloud(checks []Check, boxes []*box.Box) []Check {
	cloud := site.Cloud(f.root)
	if cloud == "" {
		return checks
	}
	for _, b := range boxes {
		own := slices.DeleteFunc(slices.Clone(checks), func(c Check) bool { return c.Area != b.Name })
		if len(b.Profile.Network.Ports) > 0 && !Failed(own) {
			checks = append(checks, f.securityGroup(cloud, b).in(b.Name, "cloud"))
		}
	}
	return checks
}

// securityGroup warns of ports without any connection so far. The box has passed all checks on this host.
func (f *facts) securityGroup(cloud string, b *box.Box) Check {
	fw, err := f.firewall()
	if err != nil {
		return broken(err)
	}
	counts := fw.Translated(b.Name)
	var silent []string
	for _, p := range b.Profile.Network.PortsFor(b.Addr) {
		if counts[p.Host] == 0 && !p.HostIP.IsLoopback() {
			silent = append(silent, portName(p))
		}
	}
	if len(silent) == 0 {
		return pass("%s lets connections in", cloud)
	}
	return warn("this host is right; where clients time out all the same, their packets are dropped before they come in",
		fmt.Sprintf("open %s in the security group of this machine", strings.Join(silent, ", ")),
		"on %s, and no connection to %s has arrived yet", cloud, strings.Join(silent, ", "))
}
