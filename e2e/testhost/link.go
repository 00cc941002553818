package testhost

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// SharedDir is where every host of a cluster sees the same directory. It stands for storage that several hosts reach.
const SharedDir = "/srv/shared"

// linkNet is the network of a cluster's link, without the last number of an address.
const linkNet = "198.51.100."

// LinkAddr returns the address of the nth host on the link, from 1 on; of the client for 100.
func LinkAddr(n int) string { return linkNet + strconv.Itoa(n) }

// NodeName returns the name of the nth host of a cluster, from 1 on.
func NodeName(n int) string { return "node" + strconv.Itoa(n) }

// clientNumber is the client's number on the link.
const clientNumber = 100

// cluster is what a host has in common with others.
type cluster struct {
	number int   // of the host, from 1 on; 0 for a host by itself
	first  *Host // the host whose client has the link, and whose disk has the shared directory
}

// NewCluster boots hosts for a cluster: with Pacemaker and Corosync, on one link beside their own wires, and with one
// directory in common. The client on the link is the client of the first host, which is closed last.
func NewCluster(ctx context.Context, n int, progress func(string)) ([]*Host, error) {
	root, web, err := roots(ctx, clusterRecipe(), progress)
	if err != nil {
		return nil, err
	}
	if err := sweep(); err != nil {
		return nil, fmt.Errorf("sweeping hosts of killed runs: %w", err)
	}
	var hosts []*Host
	for i := range n {
		h, err := create(root, web)
		if err == nil {
			hosts = append(hosts, h)
			err = h.enroll(i+1, hosts[0])
		}
		if err == nil {
			err = h.Boot(ctx)
		}
		if err != nil {
			return nil, errors.Join(err, CloseAll(hosts))
		}
	}
	return hosts, nil
}

// CloseAll closes the hosts of a cluster.
func CloseAll(hosts []*Host) error {
	var errs []error
	for i := range hosts {
		errs = append(errs, hosts[len(hosts)-1-i].Close())
	}
	return errors.Join(errs...)
}

// enroll makes a host that is off the nth of a cluster.
func (h *Host) enroll(n int, first *Host) error {
	h.cluster = cluster{number: n, first: first}
	hosts := "127.0.0.1 localhost\n"
	for i := 1; i < 10; i++ {
		hosts += LinkAddr(i) + " " + NodeName(i) + "\n"
	}
	etc := h.path("disk/root/etc")
	err := errors.Join(
		os.WriteFile(filepath.Join(etc, "hostname"), []byte(h.hostname()+"\n"), 0o644),
		os.WriteFile(filepath.Join(etc, "hosts"), []byte(hosts), 0o644),
		os.MkdirAll(h.path("disk/root", SharedDir), 0o755),
		os.MkdirAll(h.sharedDir(), 0o755))
	if err != nil || n > 1 {
		return err
	}
	return first.makeLink()
}

// hostname returns the name a host gives itself.
func (h *Host) hostname() string {
	if h.cluster.number == 0 {
		return "host"
	}
	return NodeName(h.cluster.number)
}

// sharedDir returns the directory of the machine that the host has at SharedDir; "" for a host by itself.
func (h *Host) sharedDir() string {
	if h.cluster.number == 0 {
		return ""
	}
	return h.cluster.first.path("disk/shared")
}

// Shared returns where on the machine a file below SharedDir is.
func (h *Host) Shared(name string) string { return filepath.Join(h.sharedDir(), name) }

// makeLink makes the link in the client's network. The link's MAC is fixed: a bridge changes its own when a port leaves,
// and neighbours would not know it any more.
func (h *Host) makeLink() error {
	client := clientName(h.name)
	for _, argv := range [][]string{
		{"ip", "-n", client, "link", "add", "link0", "address", "02:00:00:00:03:64", "type", "bridge"},
		{"ip", "-n", client, "addr", "add", LinkAddr(clientNumber) + "/24", "dev", "link0"},
		{"ip", "-n", client, "link", "set", "link0", "up"},
	} {
		if err := run(argv...); err != nil {
			return err
		}
	}
	return nil
}

// joinLink connects the host's eth1 to the link. A host by itself has none.
func (h *Host) joinLink() error {
	if h.cluster.number == 0 {
		return nil
	}
	client, port, mac := clientName(h.cluster.first.name), h.port(), fmt.Sprintf("02:00:00:00:03:%02x", h.cluster.number)
	for _, argv := range [][]string{
		{"ip", "-n", h.name, "link", "add", "eth1", "address", mac, "type", "veth", "peer", "name", port, "netns", client},
		{"ip", "netns", "exec", h.name, "sysctl", "-qw", "net.ipv6.conf.eth1.accept_dad=0"},
		{"ip", "-n", client, "link", "set", port, "master", "link0", "up"},
		{"ip", "-n", h.name, "addr", "add", LinkAddr(h.cluster.number) + "/24", "dev", "eth1"},
		{"ip", "-n", h.name, "link", "set", "eth1", "up"},
	} {
		if err := run(argv...); err != nil {
			return err
		}
	}
	return nil
}

// leaveLink removes the host's wire to the link, if there is one.
func (h *Host) leaveLink() error {
	if h.cluster.number == 0 {
		return nil
	}
	client := clientName(h.cluster.first.name)
	if exec.Command("ip", "-n", client, "link", "show", h.port()).Run() != nil {
		return nil
	}
	return run("ip", "-n", client, "link", "del", h.port())
}

// port returns the name of the link's end of the host's wire.
func (h *Host) port() string { return "port" + strconv.Itoa(h.cluster.number) }

// PullCable takes the cable to the link out of a host of a cluster: the host's eth1 has no carrier.
func (h *Host) PullCable() error {
	return run("ip", "-n", clientName(h.cluster.first.name), "link", "set", h.port(), "down")
}

// Kill cuts the power: all processes of the host end at once. It may be called while commands run on the host, from any
// goroutine. Reboot boots the host again.
func (h *Host) Kill() error { return killCgroup(h.cgroup) }
