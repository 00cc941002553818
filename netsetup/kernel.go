package netsetup

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"

	"boxrun/netsetup/bus"
	"boxrun/netsetup/dump"
	"boxrun/netsetup/offload"
	"boxrun/netsetup/routing"
	"boxrun/netsetup/rules"

	"github.com/coreos/go-iptables/iptables"
	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
)

// Kernel is the kernel as seen from the network namespace of the process. Plans are applied to a Kernel. A Kernel
// keeps the rules and routes read, so that checking three plans costs a single process. A Kernel is for a single
// goroutine.
type Kernel struct {
	link  *netlink.Handle
	eth   *ethtool.Ethtool
	ipt   map[family]*iptables.IPTables // opening one starts a process
	kept  map[family]*rules.Kept
	lists map[family]*routing.Lists // as read

	devices map[string]dump.Device // as read; nil: to be read
	need    *offload.Need          // nil: to be looked up

	bus     bus.Bus
	awaited bool // firewalld has answered since the last Reread
	unheard bool // firewalld did not answer
}

// lockSeconds bounds the wait for another program that writes rules at this moment.
const lockSeconds = 30

// Open opens what the plans need of the kernel. Close the Kernel after use. The error wraps rules.ErrNoIptables where
// iptables is not installed.
func Open() (*Kernel, error) {
	for _, name := range []string{"iptables", "iptables-save", "iptables-restore"} {
		if _, err := exec.LookPath(name); err != nil {
			return nil, fmt.Errorf("%w: no %s in %s", rules.ErrNoIptables, name, os.Getenv("PATH"))
		}
	}
	eth, err := ethtool.NewEthtool()
	if err != nil {
		return nil, fmt.Errorf("opening ethtool: %w", err)
	}
	link, err := dump.Kept()
	if err != nil {
		eth.Close()
		return nil, err
	}
	return &Kernel{
		link: link, eth: eth,
		ipt: map[family]*iptables.IPTables{}, kept: map[family]*rules.Kept{v4: {}, v6: {}},
		lists: map[family]*routing.Lists{},
	}, nil
}

// Remember has the Kernel know from earlier processes what the programs of iptables said.
func (k *Kernel) Remember(m rules.Memory) {
	for _, kept := range k.kept {
		kept.Memory = m
	}
}

// Close closes what Open opened.
func (k *Kernel) Close() {
	k.link.Close()
	k.eth.Close()
	k.bus.Close()
}

// Reread makes the next look at rules and routes a fresh look. Call Reread when others had time to change something, as
// after every wait.
func (k *Kernel) Reread() {
	k.need, k.devices, k.awaited = nil, nil, false
	clear(k.lists)
	for _, kept := range k.kept {
		kept.Doubt()
	}
}

// rules returns the rules of all tables of a family, read or kept. A table never used is absent.
func (k *Kernel) rules(f family) (rules.Tables, error) {
	err := k.readRules(rulesets{{family: f}})
	return k.kept[f].Tables(), err
}

// readRules reads the rules of the families of some rulesets, side by side, as far as they are not kept. The wait for
// firewalld comes before the reading, so that no step waits for firewalld after it.
func (k *Kernel) readRules(of rulesets) error {
	of = slices.DeleteFunc(slices.Clone(of), func(r *ruleset) bool { return k.kept[r.family].Has() })
	if len(of) == 0 {
		return nil
	}
	k.awaitFirewalld()
	of = slices.DeleteFunc(of, func(r *ruleset) bool { return k.kept[r.family].Hold() })
	errs := make([]error, len(of))
	var all sync.WaitGroup
	for i, r := range of {
		all.Go(func() { errs[i] = k.kept[r.family].Read(string(r.family)) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// iptables returns iptables for single rules. Few looks at the host need it, and none writes whole tables by it.
func (k *Kernel) iptables(f family) (*iptables.IPTables, error) {
	if have := k.ipt[f]; have != nil {
		return have, nil
	}
	proto := iptables.ProtocolIPv4
	if f == v6 {
		proto = iptables.ProtocolIPv6
	}
	ipt, err := iptables.New(iptables.Timeout(lockSeconds), iptables.IPFamily(proto))
	if err != nil {
		if _, said := rules.Version(string(f)); said != nil { // go-iptables drops what the program says
			err = said
		}
		return nil, fmt.Errorf("asking iptables for its version: %w", err)
	}
	k.ipt[f] = ipt
	return ipt, nil
}

// exists asks iptables itself for a rule: the answer counts where the text of a listing differs from boxrun's text.
func (k *Kernel) exists(f family, table, chain, spec string) (bool, error) {
	ipt, err := k.iptables(f)
	if err != nil {
		return false, err
	}
	ok, err := ipt.Exists(table, chain, strings.Fields(spec)...)
	return ok, ignoreNotExist(err) // iptables -C fails where the target chain is missing
}

// legacy reports whether the tool of a family has the backend whose tables are kernel modules of their own.
func legacy(f family) (bool, error) {
	backend, err := rules.Backend(string(f))
	return backend == rules.Legacy, err
}

// restore feeds lines to the restore of a tool: iptables, ip6tables, or the iptables of the other backend.
func (k *Kernel) restore(tool string, lines []string) error {
	return k.restoreAll(map[string][]string{tool: lines})[tool]
}

// restoreAll does what lines for the restores of tools ask for, and returns the errors by tool. The kept rules follow. The
// kernel's nftables does what is only a removal, at once and without a program. Otherwise, and where that fails, the lines
// go to the programs, at the same time: each table among the lines is a transaction. The legacy backend has one lock for
// all tools, for which some releases look once a second only: there the tools come one after another.
func (k *Kernel) restoreAll(inputs map[string][]string) map[string]error {
	if len(inputs) == 0 || k.withdraw(inputs) {
		return nil
	}
	var all sync.WaitGroup
	var one, done sync.Mutex
	failed := map[string]error{}
	alone4, _ := legacy(v4)
	alone6, _ := legacy(v6)
	for tool, lines := range inputs {
		all.Go(func() {
			if alone4 && alone6 {
				one.Lock()
				defer one.Unlock()
			}
			if err := rules.Restore(tool, lines, lockSeconds); err != nil {
				done.Lock()
				defer done.Unlock()
				failed[tool] = err
			}
		})
	}
	all.Wait()
	if len(failed) > 0 {
		for _, kept := range k.kept {
			kept.Drop()
		}
		return failed
	}
	k.follow(inputs, rules.Transactions(slices.Concat(slices.Collect(maps.Values(inputs))...)))
	return nil
}

// withdraw reports whether the lines were a removal that the kernel's nftables has done.
func (k *Kernel) withdraw(inputs map[string][]string) bool {
	var all []rules.Removal
	for tool, lines := range inputs {
		all = append(all, rules.Removal{Kept: k.kept[family(tool)], Lines: lines})
	}
	if rules.Withdraw(all...) != nil { // the programs do the same, and say why where they cannot
		return false
	}
	k.follow(inputs, 1)
	return true
}

// follow has the kept rules follow lines that were so many transactions.
func (k *Kernel) follow(inputs map[string][]string, transactions int) {
	for f, kept := range k.kept {
		kept.Follow(inputs[string(f)], transactions)
	}
}

// linkByName returns nil where there is no such link.
func (k *Kernel) linkByName(name string) (netlink.Link, error) {
	link, err := k.link.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, nil
	}
	return link, err
}

// device returns what the kernel has of a device, read or kept; nil where there is no such device.
func (k *Kernel) device(name string) (*dump.Device, error) {
	if k.devices == nil {
		var err error
		if k.devices, err = dump.Devices(); err != nil {
			return nil, err
		}
	}
	if d, there := k.devices[name]; there {
		return &d, nil
	}
	return nil, nil
}

// forgetDevices makes the next look at devices a fresh look: a step has changed something. Steps that need no Kernel get none.
func (k *Kernel) forgetDevices() {
	if k != nil {
		k.devices = nil
	}
}

// ignoreNotExist drops iptables' complaint about a rule or chain that is not there.
func ignoreNotExist(err error) error {
	var e *iptables.Error
	if errors.As(err, &e) && e.IsNotExist() {
		return nil
	}
	return err
}
