package netsetup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"

	"boxrun/netsetup/rules"

	"github.com/coreos/go-iptables/iptables"
	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Kernel is what plans are applied to: the network namespace of the process. It keeps what iptables-save printed until
// it writes, so that checking three plans costs one process. It is for one goroutine.
type Kernel struct {
	link   *netlink.Handle
	eth    *ethtool.Ethtool
	ipt    *iptables.IPTables
	tables rules.Tables // nil: to be read
}

// lockSeconds bounds the wait for another program that writes rules at this moment.
const lockSeconds = 30

// Open opens what the plans need of the kernel. Close it after use.
func Open() (*Kernel, error) {
	for _, name := range []string{"iptables", "iptables-save", "iptables-restore"} {
		if _, err := exec.LookPath(name); err != nil {
			return nil, fmt.Errorf("%w: no %s in %s", rules.ErrNoIptables, name, os.Getenv("PATH"))
		}
	}
	ipt, err := iptables.New(iptables.Timeout(lockSeconds))
	if err != nil {
		return nil, fmt.Errorf("asking iptables for its version: %w", err)
	}
	link, err := netlink.NewHandle(unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("opening netlink: %w", err)
	}
	eth, err := ethtool.NewEthtool()
	if err != nil {
		link.Close()
		return nil, fmt.Errorf("opening ethtool: %w", err)
	}
	return &Kernel{link: link, eth: eth, ipt: ipt}, nil
}

// Close closes what Open opened.
func (k *Kernel) Close() {
	k.link.Close()
	k.eth.Close()
}

// Reread makes the next look at the rules a fresh one. Call it when others had time to change them.
func (k *Kernel) Reread() { k.tables = nil }

// rules gives the rules of all tables in one listing. A table that was never used is absent, and reading does not
// bring it to life, as `iptables -S` does on the legacy backend.
func (k *Kernel) rules() (rules.Tables, error) {
	if k.tables != nil {
		return k.tables, nil
	}
	var err error
	for range saveTries {
		var tables rules.Tables
		if tables, err = rules.Save("iptables"); !errors.Is(err, rules.ErrIncompatible) {
			k.tables = tables
			break
		}
	}
	return k.tables, err
}

// saveTries bounds how often tables are read that iptables calls incompatible: it does so, too, while another process
// writes its first rules, as it looks at a table in several steps.
const saveTries = 5

// exists asks iptables itself for a rule: its answer counts where the text of a listing differs from ours.
func (k *Kernel) exists(table, chain, spec string) (bool, error) {
	ok, err := k.ipt.Exists(table, chain, strings.Fields(spec)...)
	return ok, ignoreNotExist(err) // iptables -C fails where the target chain is missing
}

// legacy reports whether iptables is the one whose tables are kernel modules of their own.
func legacy() (bool, error) {
	backend, _, err := rules.InUse()
	return backend == rules.Legacy, err
}

// restore feeds lines to iptables-restore; each table among them is one transaction. Its error has the line at fault.
func (k *Kernel) restore(lines []string) error {
	k.Reread()
	_, err := rules.Run(strings.Join(lines, "\n")+"\n", "iptables-restore", "--noflush", "-w", strconv.Itoa(lockSeconds))
	if err == nil {
		return nil
	}
	if at := regexp.MustCompile(`line:? (\d+)`).FindStringSubmatch(err.Error()); at != nil {
		if n, _ := strconv.Atoi(at[1]); 0 < n && n <= len(lines) {
			return fmt.Errorf("%w: %s", err, lines[n-1])
		}
	}
	return err
}

// linkByName gives nil where there is no such link.
func (k *Kernel) linkByName(name string) (netlink.Link, error) {
	link, err := k.link.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, nil
	}
	return link, err
}

// ignoreNotExist drops iptables' complaint that a rule or chain is not there.
func ignoreNotExist(err error) error {
	var e *iptables.Error
	if errors.As(err, &e) && e.IsNotExist() {
		return nil
	}
	return err
}
