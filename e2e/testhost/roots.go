package testhost

import (
	"cmp"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// CacheDir returns the directory of built root file systems: $BOXRUN_TEST_CACHE, else /var/cache/boxrun-test.
func CacheDir() string { return cmp.Or(os.Getenv("BOXRUN_TEST_CACHE"), "/var/cache/boxrun-test") }

// recipe says how to make a root file system.
type recipe struct {
	name     string
	suite    string
	extra    string // further suites, for packages pinned by setup; "" for none
	packages string
	base     *recipe // of the root that is copied, and gets the packages besides; nil for a root from nothing
	setup    string  // shell, run with the root as $1 before packages are installed
	finish   string  // shell, run with the root as $1 at the end
}

//go:embed host.setup.sh
var hostSetup string

//go:embed host.finish.sh
var hostFinish string

//go:embed neighbours.finish.sh
var neighboursFinish string

//go:embed managers.finish.sh
var managersFinish string

//go:embed further.finish.sh
var furtherFinish string

//go:embed rivals.finish.sh
var rivalsFinish string

//go:embed older.setup.sh
var olderSetup string

//go:embed older.finish.sh
var olderFinish string

//go:embed web.finish.sh
var webFinish string

// hostRecipe makes Debian 13 with Apptainer, a package of unstable only.
func hostRecipe() recipe {
	return recipe{
		name: "host", suite: "trixie", extra: "sid",
		packages: "systemd,systemd-sysv,udev,dbus,iproute2,iptables,nftables,ethtool,procps,kmod,jq,curl,ca-certificates," +
			"apptainer,squashfuse,e2fsprogs,conntrack,sudo,iputils-ping,tmux,netcat-openbsd,socat,strace",
		setup: hostSetup, finish: hostFinish,
	}
}

// besideHost returns the recipe of the host with further packages.
func besideHost(name, packages, finish string) recipe {
	r := hostRecipe()
	return recipe{name: name, suite: r.suite, extra: r.extra, base: &r, packages: packages, finish: finish}
}

// neighboursRecipe makes the host with other programs that manage a firewall or network devices. None of them runs until a
// test starts them.
func neighboursRecipe() recipe {
	return besideHost("neighbours", "firewalld,docker.io,ufw,network-manager", neighboursFinish)
}

// equippedRecipe makes the host with what people install besides: systemd-machined, and shells that complete.
func equippedRecipe() recipe {
	return besideHost("equipped", "systemd-container,bash-completion,zsh,fish", "")
}

// lendingRecipe makes the host with a DHCP server.
func lendingRecipe() recipe {
	return besideHost("lending", "dnsmasq-base", "")
}

// tunnelledRecipe makes the host with programs for VPNs. None of them runs until a test starts them.
func tunnelledRecipe() recipe {
	return besideHost("tunnelled", "strongswan-swanctl,charon-systemd,libcharon-extra-plugins,openvpn,wireguard-tools,wireguard-go",
		"chroot \"$1\" systemctl disable -q strongswan.service openvpn.service\n")
}

// managersRecipe makes the host with what gives hosts addresses, name servers and rules, none of which runs until a test starts it.
func managersRecipe() recipe {
	return besideHost("managers", "isc-dhcp-client,ifupdown,dnsmasq-base,cloud-init,iptables-persistent,systemd-resolved,podman,crun,netavark", managersFinish)
}

// furtherRecipe makes the host with further programs that manage devices, routes and rules, none of which runs until a test starts it.
func furtherRecipe() recipe {
	return besideHost("further", "dhcpcd,ifupdown2,connman,netplan.io,network-manager,shorewall,keepalived,bird2,tuned,"+
		"libvirt-daemon-driver-network,libvirt-daemon-system,libvirt-clients,dnsmasq-base", furtherFinish)
}

// rivalsRecipe makes the host with Podman and systemd-nspawn, which run boxes with systemd as well.
func rivalsRecipe() recipe {
	return besideHost("rivals", "podman,crun,netavark,systemd-container", rivalsFinish)
}

// olderRecipe makes an older release of Debian with firewalld and NetworkManager, and with the Apptainer of hostRecipe.
func olderRecipe(name, suite string) recipe {
	r := hostRecipe()
	r.name, r.suite, r.extra = name, suite, "trixie sid"
	r.packages = strings.Replace(r.packages, "apptainer", "containernetworking-plugins,squashfs-tools,uidmap,patchelf", 1) + ",firewalld,network-manager"
	r.setup, r.finish = olderSetup, hostFinish+olderFinish
	return r
}

// sidRecipe makes Debian's unstable suite with firewalld and NetworkManager: the newest of everything.
func sidRecipe() recipe {
	r := hostRecipe()
	r.name, r.suite, r.extra = "sid", "sid", ""
	r.packages += ",firewalld,network-manager"
	r.setup = ""
	r.finish += "chroot \"$1\" systemctl disable -q firewalld.service nftables.service NetworkManager.service\n"
	return r
}

// webRecipe makes the box most tests run: Debian 12 with systemd and nginx.
func webRecipe() recipe {
	return recipe{
		name: "web", suite: "bookworm",
		packages: "systemd,systemd-sysv,dbus,iproute2,iputils-ping,curl,procps,nginx-light,netcat-openbsd,socat,tmux",
		finish:   webFinish,
	}
}

// dir returns the directory for the root built from r. The name contains a checksum of the recipe, so that a changed
// recipe is built anew and an unchanged recipe never.
func (r recipe) dir() string {
	text := fmt.Appendf(nil, "{%q %q %q %q %q %q}", r.name, r.suite, r.extra, r.packages, r.setup, r.finish)
	if r.base != nil {
		text = append(text, filepath.Base(r.base.dir())...)
	}
	sum := sha256.Sum256(text)
	return filepath.Join(CacheDir(), r.name+"-"+hex.EncodeToString(sum[:6]))
}

// ensure returns the directory of the root built from r. A missing root is built first, and progress is called.
func (r recipe) ensure(ctx context.Context, progress func(string)) (string, error) {
	return r.dir(), ensure(r.dir(), progress, func(partial string) error {
		if r.base == nil {
			return r.build(ctx, partial, "minbase", r.setup)
		}
		base, err := r.base.ensure(ctx, progress)
		if err != nil {
			return err
		}
		return r.build(ctx, partial, "custom", "cp -a --reflink=auto "+base+"/. \"$1\"")
	})
}

// roots returns the directories of the roots of a host and of the web box, and builds them as ensure does.
func roots(ctx context.Context, host recipe, progress func(string)) (root, web string, err error) {
	if root, err = host.ensure(ctx, progress); err == nil {
		web, err = webRecipe().ensure(ctx, progress)
	}
	return root, web, err
}

// ensure calls build to make path, unless path exists. build works beside path, and the complete result is moved to
// path. Processes that want the same path wait for the process that builds.
func ensure(path string, progress func(string), build func(partial string) error) error {
	if err := os.MkdirAll(CacheDir(), 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("locking %s: %w", lock.Name(), err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	progress("building " + path)
	partial := path + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return err
	}
	if err := build(partial); err != nil {
		return fmt.Errorf("building %s: %w", path, err)
	}
	return os.Rename(partial, path)
}

// build makes a root from r by a variant of mmdebstrap. setup is shell, run with the root as $1 at the beginning.
func (r recipe) build(ctx context.Context, partial, variant, setup string) error {
	cmd := exec.CommandContext(ctx, "mmdebstrap", "--variant="+variant, "--include="+r.packages,
		// The Release file of unstable on a mirror may be past its date.
		"--aptopt=Acquire::Check-Valid-Until \"false\"",
		"--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
		"--setup-hook=:; "+setup, "--customize-hook=:; "+r.finish, // an empty hook is a usage error
		r.suite, partial, "-")
	cmd.Stdin = strings.NewReader(r.sources(mirror(ctx)))
	return finish(cmd, "mmdebstrap")
}

func (r recipe) sources(mirror string) string {
	var lines string
	for _, suite := range append([]string{r.suite}, strings.Fields(r.extra)...) {
		lines += "deb " + mirror + " " + suite + " main\n"
	}
	return lines
}

// mirror returns the Debian mirror of the machine's own apt, or deb.debian.org where apt names none.
func mirror(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(REPO_URI)").Output()
	if err == nil {
		for uri := range strings.FieldsSeq(string(out)) {
			if strings.HasSuffix(uri, "/debian/") {
				return strings.TrimSuffix(uri, "/")
			}
		}
	}
	return "http://deb.debian.org/debian"
}

// tail returns the last n lines of text.
func tail(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
