package doctor

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"boxrun/launcher/apptainer"
	"boxrun/launcher/box"
	"boxrun/launcher/network"
	"boxrun/launcher/passage"
	"boxrun/launcher/say"
	"boxrun/netsetup"
	"boxrun/netsetup/leases"
)

// leftoverLooks looks for leftovers of boxes, and of the scripts people used before boxrun.
type leftoverLooks struct{ *facts }

func (l leftoverLooks) list() []look {
	const area = "leftovers"
	return []look{
		one(area, "boxes", l.deadBoxes),
		one(area, "apptainer's instances", l.instances),
		one(area, "leases", l.leases),
		{area: area, name: "rules", run: withKernel(l.store, l.rulesOfNobody)},
		one(area, "old sysctl file", l.seedFile("/etc/sysctl.d/99-apptainer-universal.conf",
			"it sets at every boot what boxrun sets where and while a box needs it")),
		one(area, "old udev rule", l.seedFile("/etc/udev/rules.d/99-veth-offload.rules",
			"it turns off the offload of every veth of the machine, other people's containers included")),
		one(area, "old network file", l.seedConflist),
		one(area, "rules to nobody", l.deadDNAT),
		one(area, "rule that forwards all", l.wideForward),
	}
}

// deadBoxes reports crashed boxes, and boxes with unreadable records. While a record is unreadable, no other box can
// start.
func (l leftoverLooks) deadBoxes(context.Context) Check {
	if len(l.unread) > 0 {
		return fail("while nobody knows what they need of the host, no other box can start", "boxrun down "+l.unread[0],
			"this boxrun cannot read the records of: %s", strings.Join(l.unread, ", "))
	}
	dead := l.names(func(b *box.Box) bool { return b.State() == box.Crashed })
	if len(dead) == 0 {
		return pass("%d known, none crashed", len(l.boxes))
	}
	return fail("their rules still take packets for their ports", "boxrun up "+dead[0], "crashed: %s", strings.Join(dead, ", "))
}

// known returns the names of all boxes with a record, readable or not, and of running boxes whose records are lost.
func (l leftoverLooks) known() []string {
	return slices.Concat(box.Names(l.boxes), l.unread, l.store.Lost())
}

// instances compares Apptainer's records with boxrun's state. The check reports running boxes without a record,
// records of dead instances, and instances boxrun did not start.
func (l leftoverLooks) instances(context.Context) Check {
	hostname, nameErr := os.Hostname()
	records, err := filepath.Glob(apptainer.RecordPath(l.store.Home, hostname, "*"))
	if err := cmp.Or(nameErr, err); err != nil {
		return broken(err)
	}
	var strangers, stale []string
	unknown := l.store.Lost()
	for _, file := range records {
		name := box.NameOf(file)
		r, err := apptainer.ReadRecord(file)
		switch {
		case err != nil || r.Verify() != nil:
			stale = append(stale, name)
		case !slices.Contains(l.known(), name):
			strangers = append(strangers, name)
		}
	}
	lost := l.names(func(b *box.Box) bool {
		_, err := os.Stat(b.Record)
		return b.Alive() && errors.Is(err, fs.ErrNotExist)
	})
	switch {
	case len(unknown) > 0:
		return fail("no verb but down knows them", "boxrun down "+unknown[0], "run, but boxrun has lost their records: %s", strings.Join(unknown, ", "))
	case len(lost) > 0:
		return fail("nobody can enter them: exec and shell go by Apptainer's record", "boxrun repair",
			"run, but Apptainer has lost their records: %s", strings.Join(lost, ", "))
	case len(stale) > 0:
		return warn("they look like boxes to Apptainer", "apptainer instance list", "records of dead instances: %s", strings.Join(stale, ", "))
	case len(strangers) > 0:
		return warn("boxrun does not look after what was started by hand", "apptainer instance stop "+strangers[0],
			"instances that boxrun did not start: %s", strings.Join(strangers, ", "))
	}
	return pass("the same that boxrun knows")
}

// leases reports leases of addresses whose owners are dead, and addresses of running boxes leased by somebody else, too.
func (l leftoverLooks) leases(context.Context) Check {
	for _, b := range l.boxes {
		if !b.Bridged() || !b.Alive() {
			continue
		}
		owners, err := leases.OwnersOf(b.Addr, append(network.LeaseDirs(l.store), b.OtherLeases...)...)
		others := slices.DeleteFunc(owners, func(o string) bool { return o == "boxrun:"+b.Name || o == strconv.Itoa(b.Init.PID) })
		switch {
		case err != nil:
			return broken(err)
		case len(others) > 0:
			return fail("packets for the box go to somebody else", "boxrun restart "+b.Name, "%s, the address of %s, is leased to %s, too", b.Addr, b.Name, say.Listed(others, 3))
		}
	}
	stale, err := leases.Stale(network.LeaseDirs(l.store)...)
	if err != nil {
		return broken(err)
	}
	if len(stale) == 0 {
		return pass("none without an owner")
	}
	return warn("they block addresses, and now and then a start", network.RepairCommand, "their owners are dead: %s", say.Listed(stale, 3))
}

// rulesOfNobody reports rules of boxrun for boxes and bridges that do not exist.
func (l leftoverLooks) rulesOfNobody(k *netsetup.Kernel) []Check {
	names, err := netsetup.Leftovers(k, l.known())
	switch {
	case err != nil:
		return []Check{broken(err)}
	case len(names) == 0:
		return []Check{pass("none of boxrun's without a box")}
	}
	return []Check{fail("they take packets for ports that nobody answers", network.RepairCommand, "rules of boxrun for what does not exist: %s", strings.Join(names, ", "))}
}

// seedFile returns a look for a file of the scripts people used before boxrun. why says what the file does. boxrun
// names such files and does not remove them: nobody knows who else relies on them.
func (l leftoverLooks) seedFile(file, why string) func(context.Context) Check {
	return func(context.Context) Check {
		if _, err := os.Lstat(l.path(file)); err != nil {
			return unreadable(err, "no "+file)
		}
		return warn(why, "rm "+file, "%s", file)
	}
}

// seedConflist looks for the network my_bridge of the scripts in all directories where an Apptainer may look for
// networks. An unreadable conflist is reported too.
func (l leftoverLooks) seedConflist(context.Context) Check {
	dirs := []string{"/etc/apptainer/network", "/usr/local/etc/apptainer/network", "/etc/singularity/network", "/etc/cni/net.d"}
	if a, err := l.apptainer(); err == nil {
		dirs = append(dirs, filepath.Join(filepath.Dir(a.ConfFile), "network"))
		if dir := a.Setting("cni configuration path"); dir != "" {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range dirs {
		files, _ := filepath.Glob(l.path(filepath.Join(dir, "*.conflist"))) // the pattern is right
		for _, file := range files {
			shown := "/" + strings.TrimPrefix(strings.TrimPrefix(file, l.root), "/")
			c, err := apptainer.ReadConflist(file)
			switch {
			case err != nil:
				return warn("Apptainer gives up on networks that sort after it", "correct it, or rm "+shown, "%v", err)
			case c.Name == "my_bridge" || filepath.Base(file) == "20-bridge.conflist":
				return warn("boxrun brings its own networks; instances on this one get no rules from it", "rm "+shown,
					"%s, network %q", shown, c.Name)
			}
		}
	}
	return pass("no network my_bridge")
}

// deadDNAT looks for rules that send ports to an unused address in a network of boxes. People typed such rules with
// the address a box had at the time.
func (l leftoverLooks) deadDNAT(context.Context) Check {
	sends := func(rule string) bool {
		_, to, ok := strings.Cut(rule, "--to-destination ")
		return ok && strings.Contains(rule, "-t nat") && l.deadAddress(to)
	}
	return l.noRules(sends, func(rules []string) Check {
		return warn("they take packets for ports that nobody answers; a box that gets the address is published by accident",
			passage.DeleteCommand(rules[0]), "rules to addresses that no box has: %s", say.Listed(rules, 3))
	})
}

// noRules passes where no rule on the host is bad. Otherwise judge gets the bad rules.
func (l leftoverLooks) noRules(bad func(rule string) bool, judge func(rules []string) Check) Check {
	f, err := l.firewall()
	if err != nil {
		return skip("the rules cannot be read")
	}
	if rules := f.Rules(bad); len(rules) > 0 {
		return judge(rules)
	}
	return pass("none")
}

// wideForward looks for a rule that forwards everything for everybody. People typed such a rule when their instances
// could not reach the outside. The policy ACCEPT is not reported, because ACCEPT is the kernel's own default.
func (l leftoverLooks) wideForward(context.Context) Check {
	wide := func(rule string) bool { return strings.HasSuffix(rule, " -t filter -A FORWARD -j ACCEPT") }
	return l.noRules(wide, func(rules []string) Check {
		return warn("the host forwards for everybody, and no rule after it is asked; boxes do not need it",
			passage.DeleteCommand(rules[0]), "%s", rules[0])
	})
}

// deadAddress says whether to, the destination of a DNAT rule, is in a network of boxes and belongs to neither a
// running box nor a lease.
func (l leftoverLooks) deadAddress(to string) bool {
	text, _, _ := strings.Cut(strings.Fields(to)[0], ":")
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return false
	}
	networks := l.networks()
	i := slices.IndexFunc(networks, func(n netsetup.Network) bool { return n.Subnet.Contains(addr) })
	if i < 0 || slices.ContainsFunc(l.boxes, func(b *box.Box) bool { return b.Alive() && b.Addr == addr }) {
		return false
	}
	held, err := netsetup.Held(networks[i], addr)
	return !held && err == nil
}
