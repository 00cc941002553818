package network

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/list"
	"boxrun/launcher/passage"
	"boxrun/netsetup"
	"boxrun/netsetup/firewall"
	"boxrun/netsetup/rules"
	"boxrun/netsetup/site"
	"boxrun/profiles"
)

// Obstacles returns a caution for each setting of the host's own that keeps packets from a running box, and that boxrun
// leaves to the administrator: a manager of devices that has the bridge or the veth in spite of boxrun's file, and an
// interface to the outside that does not forward, or takes smaller packets than at the start.
func Obstacles(b *box.Box) ([]fault.Caution, error) {
	if !b.Bridged() {
		return nil, nil
	}
	external, err := External(b.Profile.Network)
	out, outErr := external, error(nil)
	if b.Profile.Network.External != "" {
		out, outErr = netsetup.DefaultExternal()
	}
	if err := cmp.Or(err, outErr); err != nil {
		return nil, err
	}
	return obstacles(b, external, out, func(_ string, look func() ([]fault.Caution, error)) ([]fault.Caution, error) { return look() })
}

// obstacles is Obstacles, for the interface of the profile and that of the default route. once returns what a look finds, or what
// an earlier look of the same name found for another box.
func obstacles(
	b *box.Box, external, out netsetup.External, once func(name string, look func() ([]fault.Caution, error)) ([]fault.Caution, error),
) ([]fault.Caution, error) {
	bridge, names := b.Profile.Network.Bridge, uplinks(external, out)
	veth, err := once("veths "+bridge, func() ([]fault.Caution, error) { return takenVeths("/", bridge) })
	if len(veth) == 0 && err == nil {
		veth, err = managedDevice("/", b.Veth, bridge)
	}
	ofBridge, bridgeErr := once("bridge "+bridge, func() ([]fault.Caution, error) { return managedBridge("/", bridge) })
	links, renameErr := once("names "+bridge, func() ([]fault.Caution, error) { return renamed("/", bridge) })
	asked, askedErr := askedOn("/", b)
	closed, closedErr := once("uplinks "+strings.Join(names, " "), func() ([]fault.Caution, error) { return closedUplinks("/", names) })
	return slices.Concat(veth, ofBridge, links, asked, closed, narrowed(b, external)), cmp.Or(err, bridgeErr, renameErr, askedErr, closedErr)
}

// Rivals returns a caution for each rule of others that keeps packets from a box; read reads the rules of the host.
func Rivals(read func() (firewall.State, error), b *box.Box) ([]fault.Caution, error) {
	if !b.Bridged() {
		return nil, nil
	}
	all, err := read()
	external, externalErr := External(b.Profile.Network)
	if err := cmp.Or(err, externalErr); err != nil {
		return nil, err
	}
	return passage.Cautions(all.Rivals(), b, external, netsetup.LookFirewalld)
}

// narrowed returns a caution where the interface that gave the box its MTU has a smaller MTU by now. A VPN that has come up
// since gave no MTU: on its way packets are fitted as on any other path.
func narrowed(b *box.Box, external netsetup.External) []fault.Caution {
	if external.MTU == 0 || external.MTU >= b.MTU || external.PointToPoint {
		return nil
	}
	return []fault.Caution{{
		Text: fmt.Sprintf("%s has an MTU of %d by now, and the box one of %d: larger packets of the box are cut or sent back", external.Name, external.MTU, b.MTU),
		Hint: fmt.Sprintf("\"boxrun restart %s\" gives the box the smaller one", b.Name),
	}}
}

// askedOn returns a caution for each program that asks for addresses of the host on the device of the box. Root in the box may
// answer, and so choose the host's addresses, default route and name servers.
func askedOn(root string, b *box.Box) ([]fault.Caution, error) {
	askers, err := site.Askers(root, b.Veth, b.Profile.Network.Bridge)
	return list.Map(askers, func(a site.Asker) fault.Caution {
		return fault.Caution{Text: fmt.Sprintf("%s asks for addresses of this host on %s, where root in the box may answer: %s does not leave it out", a.Program, b.Veth, a.File), Hint: a.Fix}
	}), err
}

// renamed returns a caution for each file by which udev gives another name to each veth of the bridge, or to a bridge that is
// boxrun's own to make, as soon as the device comes. The plugin that makes a veth then finds the veth no more.
func renamed(root, bridge string) ([]fault.Caution, error) {
	links, err := site.ReadLinks(root)
	if of := links.Rename(vethToCome()); of != "" || err != nil {
		return keptName("veths", "veth????????", of), err
	}
	alias, err := os.ReadFile(filepath.Join(root, "sys/class/net", bridge, "ifalias"))
	if err == nil && strings.TrimSpace(string(alias)) != rules.MarkPrefix+bridge {
		return nil, nil // somebody else's
	}
	return keptName(bridge, bridge, links.Rename(site.Device{Name: bridge, Type: "bridge", Kind: "bridge"})), nil
}

// keptName returns the caution for devices of a pattern that udev renames by a file; none for no file.
func keptName(devices, pattern, file string) []fault.Caution {
	if file == "" {
		return nil
	}
	return []fault.Caution{{Text: fmt.Sprintf("udev gives %s another name, by %s", devices, file),
		Hint: fmt.Sprintf("have udev leave that name: printf '[Match]\\nOriginalName=%s\\n[Link]\\nNamePolicy=keep\\n' > /etc/systemd/network/00-boxrun.link; udevadm control --reload", pattern)}}
}

// vethToCome is a veth that the CNI plugin may make, by the form of its name.
func vethToCome() site.Device { return site.Device{Name: "veth00000000", Type: "ether", Kind: "veth"} }

// takenVeths returns the caution for a file of systemd-networkd's by which networkd takes each veth of the bridge as soon as
// the veth comes, whether networkd has done so yet or not.
func takenVeths(root, bridge string) ([]fault.Caution, error) {
	file, err := site.Takes(root, vethToCome(), netsetup.NetworkdPrefix+bridge+".network")
	if file == "" || err != nil {
		return nil, err
	}
	return managedBy("veths", file, true, bridge), nil
}

// managedBridge returns the caution for a bridge of boxrun's own: a bridge that boxrun did not make may be networkd's.
func managedBridge(root, bridge string) ([]fault.Caution, error) {
	alias, err := os.ReadFile(filepath.Join(root, "sys/class/net", bridge, "ifalias"))
	if err != nil || strings.TrimSpace(string(alias)) != rules.MarkPrefix+bridge {
		return nil, nil //nolint:nilerr // there is no such bridge
	}
	return managedDevice(root, bridge, bridge)
}

// managedDevice returns the caution for a device that systemd-networkd manages: a bridge, or a veth on the bridge.
func managedDevice(root, device, bridge string) ([]fault.Caution, error) {
	file, err := site.Manages(root, device)
	if file == "" || err != nil {
		return nil, err
	}
	return managedBy(device, file, filepath.Base(file) < netsetup.NetworkdPrefix+bridge, bridge), nil
}

// managedBy returns the caution for devices that systemd-networkd has by a file. A file read after boxrun's has them only
// until networkd reads its files again.
func managedBy(devices, file string, before bool, bridge string) []fault.Caution {
	c := fault.Caution{Text: fmt.Sprintf("systemd-networkd manages %s, and may take them off their network, by %s", devices, file),
		Hint: "networkctl reload, or systemctl restart systemd-networkd where it knows no reload"}
	if before {
		c.Hint = fmt.Sprintf("add \"Name=!%s veth*\" to [Match] there, or let that file's name sort after %s%[1]s.network; then networkctl reload",
			bridge, netsetup.NetworkdPrefix)
	}
	return []fault.Caution{c}
}

// RefuseTaken refuses a box whose veth systemd-networkd would take off the bridge, or whose devices udev would rename.
func RefuseTaken(p profiles.Profile) error { return refuseTaken("/", p) }

func refuseTaken(root string, p profiles.Profile) error {
	if p.Network.Mode != profiles.BridgeMode {
		return nil
	}
	by, err := takenVeths(root, p.Network.Bridge)
	names, renameErr := renamed(root, p.Network.Bridge)
	if by = append(by, names...); len(by) == 0 {
		return cmp.Or(err, renameErr)
	}
	return fault.Refused(by[0].Hint, "%s", by[0].Text)
}

// uplinks returns the names of the interfaces, each once.
func uplinks(external, out netsetup.External) []string {
	names := slices.DeleteFunc([]string{external.Name, out.Name}, func(name string) bool { return name == "" })
	return slices.Compact(names)
}

// closedUplinks returns a caution for each interface that does not forward what arrives there.
func closedUplinks(root string, uplinks []string) ([]fault.Caution, error) {
	var said []fault.Caution
	for _, device := range uplinks {
		path := "net/ipv4/conf/" + device + "/forwarding"
		value, err := os.ReadFile(filepath.Join(root, "proc/sys", path))
		if errors.Is(err, fs.ErrNotExist) || err == nil && strings.TrimSpace(string(value)) != "0" {
			continue
		}
		key, by := site.Key(path), ""
		if err == nil {
			by, err = site.StopsForwarding(root, device)
		}
		if err != nil {
			return said, err
		}
		c := fault.Caution{Text: fmt.Sprintf("%s is 0, so that nothing gets from %s to boxes", key, device), Hint: "sysctl -w " + key + "=1"}
		if by != "" {
			c.Text, c.Hint = c.Text+", by "+by, c.Hint+", and change that line"
		}
		said = append(said, c)
	}
	return said, nil
}
