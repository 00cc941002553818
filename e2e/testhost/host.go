package testhost

import (
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"boxrun/launcher/process"
)

// Addresses of the wire between a host and its client.
const (
	HostAddr   = "192.0.2.1"
	ClientAddr = "192.0.2.2"
)

// WebImage is where a host sees the root file system of the systemd and nginx box, read-only.
const WebImage = "/srv/web"

// bootTimeout is how long a host may take until its systemd is running. A boot usually takes two seconds.
const bootTimeout = 90 * time.Second

//go:embed boot.sh
var bootScript string

// Host is a test host. The host is up from New to Close, except between Shutdown and Boot. Only Exec, Command,
// Client and Kill may be called from several goroutines at once.
type Host struct {
	name   string
	web    string   // root of the web box on the machine
	cgroup string   // of all processes of the host
	lock   *os.File // held while the owner lives, so that others do not sweep this host away

	cluster cluster // of NewCluster

	// while the host is on:
	init    int           // the host's PID 1, in the machine's PID namespace
	session *os.File      // the cgroup of commands from outside: beside the host's units, as a login session is
	ended   chan struct{} // closed when the host's PID 1 has ended
}

// New boots a new host. First New sweeps the remains of killed runs, and builds the root file systems that are not
// cached. progress is called before steps that take long. New needs root.
func New(ctx context.Context, progress func(string)) (*Host, error) {
	return newHost(ctx, hostRecipe(), progress)
}

// NewWithNeighbours is New for a host with firewalld, Docker and ufw installed, and none of them running.
func NewWithNeighbours(ctx context.Context, progress func(string)) (*Host, error) {
	return newHost(ctx, neighboursRecipe(), progress)
}

// NewLending is New for a host with dnsmasq, which lends addresses.
func NewLending(ctx context.Context, progress func(string)) (*Host, error) {
	return newHost(ctx, lendingRecipe(), progress)
}

// NewTunnelled is New for a host with strongSwan, OpenVPN and WireGuard, none of which runs.
func NewTunnelled(ctx context.Context, progress func(string)) (*Host, error) {
	return newHost(ctx, tunnelledRecipe(), progress)
}

// NewEquipped is New for a host with systemd-machined, which D-Bus starts when asked, and with shells that complete.
func NewEquipped(ctx context.Context, progress func(string)) (*Host, error) {
	return newHost(ctx, equippedRecipe(), progress)
}

// NewWithManagers is New for a host with a DHCP client and server, cloud-init, netfilter-persistent, systemd-resolved and Podman.
func NewWithManagers(ctx context.Context, progress func(string)) (*Host, error) {
	return newHost(ctx, managersRecipe(), progress)
}

// NewWithFurther is New for a host with dhcpcd, ifupdown2, ConnMan, keepalived, libvirt and others, none of which runs.
func NewWithFurther(ctx context.Context, progress func(string)) (*Host, error) {
	return newHost(ctx, furtherRecipe(), progress)
}

// NewWithRivals is New for a host with Podman and systemd-nspawn installed.
func NewWithRivals(ctx context.Context, progress func(string)) (*Host, error) {
	return newHost(ctx, rivalsRecipe(), progress)
}

// NewDebian12 is New for a host that has systemd 252, iptables 1.8.9 and firewalld 1.3, and firewalld not running.
func NewDebian12(ctx context.Context, progress func(string)) (*Host, error) {
	return newHost(ctx, olderRecipe("debian12", "bookworm"), progress)
}

// NewDebian11 is New for a host that has systemd 247, iptables 1.8.7 and firewalld 0.9, and firewalld not running.
func NewDebian11(ctx context.Context, progress func(string)) (*Host, error) {
	return newHost(ctx, olderRecipe("debian11", "bullseye"), progress)
}

// NewSid is New for a host with the newest of everything, and firewalld not running.
func NewSid(ctx context.Context, progress func(string)) (*Host, error) {
	return newHost(ctx, sidRecipe(), progress)
}

func newHost(ctx context.Context, r recipe, progress func(string)) (*Host, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("a test host needs root: it is made of namespaces, mounts and a cgroup")
	}
	if process.CgroupMount() == "" {
		return nil, errors.New("a test host needs cgroup2, and none is mounted here")
	}
	if err := sweep(); err != nil {
		return nil, fmt.Errorf("sweeping hosts of killed runs: %w", err)
	}
	root, web, err := roots(ctx, r, progress)
	if err != nil {
		return nil, err
	}
	h, err := create(root, web)
	if err != nil {
		return nil, err
	}
	if err := h.Boot(ctx); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// create makes the directory, the disk and the client of a host that is off.
func create(root, web string) (*Host, error) {
	h := &Host{web: web}
	if err := h.claimName(); err != nil {
		return nil, err
	}
	for _, step := range []func() error{
		func() error { return h.mountDisk(root) },
		h.makeClient,
		h.fitToMachine,
	} {
		if err := step(); err != nil {
			return nil, errors.Join(err, h.Close())
		}
	}
	return h, nil
}

// claimName finds a free name, makes the host's directory and locks the name.
func (h *Host) claimName() error {
	h.name = fmt.Sprintf("%s%d-%s", prefix, os.Getpid(), strings.ToLower(rand.Text()[:4]))
	h.cgroup = filepath.Join(process.CgroupMount(), h.name)
	unlock, err := lockNames()
	if err != nil {
		return err
	}
	if err = os.MkdirAll(h.dir(), 0o755); err == nil {
		h.lock, err = lockOwner(h.name)
	}
	return errors.Join(err, unlock())
}

// mountDisk gives the host a root of its own above the shared root, and a /var that is no overlay. An overlay cannot be
// the upper directory of another overlay, and boxes keep overlays in /var/lib.
func (h *Host) mountDisk(root string) error {
	disk := h.path("disk")
	if err := os.MkdirAll(disk, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mounting tmpfs on %s: %w", disk, err)
	}
	for _, dir := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(disk, dir), 0o755); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", root, disk, disk)
	if err := unix.Mount("overlay", h.path("disk/root"), "overlay", 0, options); err != nil {
		return fmt.Errorf("mounting the overlay of %s: %w", h.name, err)
	}
	return run("cp", "-a", filepath.Join(root, "var"), h.path("disk/var"))
}

// fitToMachine writes the few files of a host that depend on the machine.
func (h *Host) fitToMachine() error {
	machineID := strings.ReplaceAll(uuid.NewString(), "-", "")
	files := map[string]string{
		"/etc/hostname":    "host\n",
		"/etc/hosts":       "127.0.0.1 localhost\n" + HostAddr + " host\n" + ClientAddr + " client\n",
		"/etc/resolv.conf": "nameserver " + ClientAddr + "\n",
		"/etc/machine-id":  machineID + "\n", // without a machine id, systemd takes every boot for the first
		// Without these files, systemd makes anew what the packages have made: the caches of ldconfig and the journal, and users.
		"/etc/.updated": "",
		"/var/.updated": "",
	}
	for name, text := range files {
		if err := os.WriteFile(h.file(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(h.path("disk/root", WebImage), 0o755); err != nil {
		return err
	}
	return lowerCapabilities(h.path("disk/root"))
}

// Boot starts a host that is off, and waits until its systemd has booted. The host has a network of its own, an empty
// /run and a new boot id. The error of a failed boot shows the console.
func (h *Host) Boot(ctx context.Context) error {
	if err := errors.Join(h.makeWire(), h.joinLink()); err != nil {
		return err
	}
	if err := os.WriteFile(h.path("boot_id"), []byte(uuid.NewString()+"\n"), 0o444); err != nil {
		return err
	}
	if err := h.makeCgroup(); err != nil {
		return fmt.Errorf("making the cgroup of %s: %w", h.name, err)
	}
	if err := h.startInit(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	if err := h.awaitBooted(ctx); err != nil {
		return fmt.Errorf("booting %s: %w; its console:\n%s", h.name, err, h.console())
	}
	return nil
}

// makeCgroup makes the cgroup of the host and, inside, the cgroup for commands from outside.
func (h *Host) makeCgroup() error {
	session := filepath.Join(h.cgroup, "session")
	if err := os.MkdirAll(session, 0o755); err != nil {
		return err
	}
	var err error
	h.session, err = os.Open(session)
	return err
}

// startInit starts the host's first process in namespaces and a cgroup of its own.
func (h *Host) startInit() error {
	console, err := os.Create(h.path("console"))
	if err != nil {
		return err
	}
	defer console.Close()
	cgroup, err := os.Open(h.cgroup)
	if err != nil {
		return err
	}
	defer cgroup.Close()
	cmd := exec.Command("nsenter", "--net="+netnsPath(h.name),
		"unshare", "-m", "-p", "-f", "-u", "-i", "-C", "--kill-child", "--propagation", "private",
		"sh", "-c", bootScript, "boot.sh", h.path("disk/root"), h.hostname(), h.path("disk/var"), h.web, h.path("boot_id"), h.sharedDir())
	cmd.Stdout, cmd.Stderr = console, console
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:      true,
		UseCgroupFD: true, CgroupFD: int(cgroup.Fd()),
		Pdeathsig: syscall.SIGKILL,
	}
	started := make(chan error, 1)
	h.ended = make(chan struct{})
	go superviseInit(cmd, started, h.ended)
	if err := <-started; err != nil {
		return fmt.Errorf("starting %s: %w", h.name, err)
	}
	return h.findInit(cmd.Process.Pid)
}

// superviseInit starts cmd and waits for cmd, on a thread that lives as long. The kernel sends Pdeathsig when the
// thread that started a process ends, and Go ends idle threads.
func superviseInit(cmd *exec.Cmd, started chan<- error, ended chan<- struct{}) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(ended)
	err := cmd.Start()
	started <- err
	if err == nil {
		_ = cmd.Wait() // how PID 1 of a host ends says nothing
	}
}

// findInit records the host's PID 1, the only child of unshare, once PID 1 has become systemd. Before then the mounts
// of PID 1 are still the machine's.
func (h *Host) findInit(unshare int) error {
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		select {
		case <-h.ended:
			return fmt.Errorf("booting %s: its first process ended; its console:\n%s", h.name, h.console())
		case <-time.After(10 * time.Millisecond):
		}
		child, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", unshare, unshare))
		if err != nil {
			continue // ended in between; the select above notices
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(child)))
		if err != nil {
			continue // nsenter has not become unshare yet, or unshare has not forked
		}
		if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); string(comm) == "systemd\n" {
			h.init = pid
			return nil
		}
	}
	return fmt.Errorf("booting %s: no systemd after 10 s; its console:\n%s", h.name, h.console())
}

// awaitBooted waits until the host's systemd has nothing left to start. A failed unit is an error.
func (h *Host) awaitBooted(ctx context.Context) error {
	for {
		r, err := h.Exec(ctx, "systemctl", "is-system-running", "--wait") // fails at once until systemd listens
		state := strings.TrimSpace(r.Stdout)
		if state == "running" {
			return nil
		}
		if state == "degraded" {
			failed, _ := h.Exec(ctx, "systemctl", "--failed", "--no-legend", "--plain")
			return fmt.Errorf("starting units: some failed:\n%s", failed.Stdout)
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("its systemd is %q: %s", state, r.Stderr), err)
		case <-h.ended:
			return errors.New("its systemd ended")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Reboot cuts the power and boots again from the same disk.
func (h *Host) Reboot(ctx context.Context) error {
	if err := h.cutPower(); err != nil {
		return err
	}
	return h.Boot(ctx)
}

// Powered reports whether the host has power: it boots, or runs.
func (h *Host) Powered() bool {
	select {
	case <-h.ended:
		return false
	default:
		return h.ended != nil
	}
}

// Shutdown makes the host's systemd stop everything and power off. Boot starts the host again.
func (h *Host) Shutdown(ctx context.Context) error {
	if _, err := h.Exec(ctx, "systemctl", "poweroff"); err != nil {
		return err
	}
	select {
	case <-h.ended:
	case <-ctx.Done():
		return fmt.Errorf("powering off %s: %w; its console:\n%s", h.name, ctx.Err(), h.console())
	}
	return h.cutPower()
}

// cutPower kills all processes of the host at once and removes the wire. A host that is off has no processes, and this
// is no error.
func (h *Host) cutPower() error {
	// The cgroup goes as well: Linux 6.13 and later kill processes that are cloned into a cgroup once killed.
	err := errors.Join(killCgroup(h.cgroup), process.RemoveTree(h.cgroup), h.leaveLink(), removeWire(h.name))
	if h.ended != nil {
		<-h.ended
	}
	if h.session != nil {
		err = errors.Join(err, h.session.Close())
	}
	h.init, h.ended, h.session = 0, nil, nil
	return err
}

// Close ends the host and removes everything the machine had for the host. Closing twice is fine.
func (h *Host) Close() error {
	if h.lock == nil {
		return nil
	}
	err := errors.Join(h.cutPower(), remove(h.name))
	h.lock.Close()
	h.lock = nil
	return err
}

// Name returns the host's name on the machine, for messages.
func (h *Host) Name() string { return h.name }

func (h *Host) console() string {
	text, _ := os.ReadFile(h.path("console")) // no console before the first boot
	return tail(string(text), 20)
}

// dir returns the host's directory on the machine.
func (h *Host) dir() string { return filepath.Join(stateDir, h.name) }

func (h *Host) path(elem ...string) string {
	return filepath.Join(append([]string{h.dir()}, elem...)...)
}
