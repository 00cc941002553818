package netsetup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"

	"boxrun/netsetup/bus"
	"boxrun/netsetup/dump"
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
	ipt   *iptables.IPTables // nil: to be opened, which starts a process
	kept  rules.Kept
	lists *routing.Lists // nil: to be read

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
	return &Kernel{link: dump.OfHost(), eth: eth}, nil
}

// Close closes what Open opened.
func (k *Kernel) Close() {
	k.eth.Close()
	k.bus.Close()
}

// Reread makes the next look at rules and routes a fresh look. Call Reread when others had time to change something, as
// after every wait.
func (k *Kernel) Reread() {
	k.lists, k.awaited = nil, false
	k.kept.Doubt()
}

// rules returns the rules of all tables, read or kept. A table never used is absent. The wait for firewalld comes before
// the reading, so that no step waits for firewalld after it.
func (k *Kernel) rules() (rules.Tables, error) {
	if k.kept.Has() {
		return k.kept.Tables(), nil
	}
	k.awaitFirewalld()
	if k.kept.Hold() {
		return k.kept.Tables(), nil
	}
	return k.kept.Read()
}

// iptables returns iptables for single rules. Few looks at the host need it, and none writes whole tables by it.
func (k *Kernel) iptables() (*iptables.IPTables, error) {
	if k.ipt != nil {
		return k.ipt, nil
	}
	var err error
	if k.ipt, err = iptables.New(iptables.Timeout(lockSeconds)); err != nil {
		if _, said := rules.Version(); said != nil { // go-iptables drops what the program says
			err = said
		}
		return nil, fmt.Errorf("asking iptables for its version: %w", err)
	}
	return k.ipt, nil
}

// exists asks iptables itself for a rule: the answer counts where the text of a listing differs from boxrun's text.
func (k *Kernel) exists(table, chain, spec string) (bool, error) {
	ipt, err := k.iptables()
	if err != nil {
		return false, err
	}
	ok, err := ipt.Exists(table, chain, strings.Fields(spec)...)
	return ok, ignoreNotExist(err) // iptables -C fails where the target chain is missing
}

// legacy reports whether iptables has the backend whose tables are kernel modules of their own.
func legacy() (bool, error) {
	backend, err := rules.Backend()
	return backend == rules.Legacy, err
}

// restore feeds lines to the restore of a tool: iptables, or the iptables of the other backend. Each table among the
// lines is a transaction. The error ends with the line at fault.
func (k *Kernel) restore(tool string, lines []string) error {
	input := strings.Join(lines, "\n") + "\n"
	_, err := rules.Run(input, tool+"-restore", "--noflush", "-w", strconv.Itoa(lockSeconds))
	if err == nil {
		k.kept.Write(tool, lines)
		return nil
	}
	k.kept.Drop()
	if at := regexp.MustCompile(`line:? (\d+)`).FindStringSubmatch(err.Error()); at != nil {
		if n, _ := strconv.Atoi(at[1]); 0 < n && n <= len(lines) {
			return fmt.Errorf("%w: %s", err, lines[n-1])
		}
	}
	return err
}

// linkByName returns nil where there is no such link.
func (k *Kernel) linkByName(name string) (netlink.Link, error) {
	link, err := k.link.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, nil
	}
	return link, err
}

// ignoreNotExist drops iptables' complaint about a rule or chain that is not there.
func ignoreNotExist(err error) error {
	var e *iptables.Error
	if errors.As(err, &e) && e.IsNotExist() {
		return nil
	}
	return err
}
