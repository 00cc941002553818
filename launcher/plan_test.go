package launcher

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"boxrun/launcher/box"
	"boxrun/launcher/boxtest"
	"boxrun/launcher/conf"
	"boxrun/launcher/testkit"
	"boxrun/profiles"
)

// A plan follows from its facts alone, so it is printed for a host that is not this one.
func TestPlanOfABox(t *testing.T) {
	l := &Launcher{Store: &box.Store{Dir: "/run/boxrun", Home: "/root", Exe: "/usr/bin/boxrun"}}
	b := boxtest.Of("web", func(p *profiles.Profile) {
		p.Network.Mode, p.Image, p.Hostname = profiles.NoneMode, "/srv/web", "web"
		p.Storage.Root, p.Storage.Overlay = "overlay", "/srv/changes"
		p.Secrets = map[string]string{"key": "/root/a key"}
	})
	b.Record = "/root/web.json"
	w := plan(l.Store, b.Profile, b, nil, facts{
		apptainer: "/opt/apptainer/bin/apptainer", site: "/etc/apptainer/apptainer.conf", siteText: "allow setuid = yes\n", systemd: true,
		resolvers: conf.Resolvers{Servers: []netip.Addr{netip.MustParseAddr("192.0.2.53")}},
		secrets:   map[string][]byte{"key": []byte("hunter2")},
		machine:   []string{"container_uuid=859bbd5421d14a9db3ae8548434b58a8"},
	})
	testkit.WantText(t, w.files[0].Files[1].Content, "allow setuid = yes\ncni configuration path = /run/boxrun/cni\nconfig resolv_conf = no\n")
	testkit.WantText(t, w.files[2].Files[1].Content, "hunter2")
	lines, err := l.startCommands(w)
	mark, markErr := w.claim.Commands() // names this machine
	if err != nil || markErr != nil {
		t.Fatal(err, markErr)
	}
	lines = slices.DeleteFunc(lines, func(line string) bool {
		return strings.HasPrefix(line, "ln -sfn /dev/null ") || strings.HasPrefix(line, "cat ")
	})
	testkit.WantText(t, strings.Join(lines, "\n"), `mkdir -p /run/boxrun
sed -e '$acni configuration path = /run/boxrun/cni' -e '/^cni configuration path *=/d' -e '$aconfig resolv_conf = no' -e '/^config resolv_conf *=/d' /etc/apptainer/apptainer.conf > /run/boxrun/apptainer.conf
mkdir -p /run/boxrun/boxes/web/conf
install -d -m 700 /run/boxrun/boxes/web/secrets
install -m 400 '/root/a key' /run/boxrun/boxes/web/secrets/key
mkdir -p /srv/changes && chmod go= /srv/changes
mkdir -p -m 700 /run/boxrun-journals && mkdir -p /run/boxrun-journals/web
mount -t tmpfs -o nosuid,nodev,noexec,mode=755,size=20%,nr_inodes=800k tmpfs /run/boxrun-journals/web
`+mark[0]+"\nenv -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=linux LANG=C.UTF-8 container=apptainer "+
		`container_uuid=859bbd5421d14a9db3ae8548434b58a8 `+
		`GOGC=400 GOMAXPROCS=1 'BOXRUN_CONFINE={"security":{"level":"default","capabilities":[],"devices":[]},"host_network":false,"bare":false}' `+
		`apptainer -c /run/boxrun/apptainer.conf instance start --boot --net --network none --hostname web --no-home `+
		`--no-mount /etc/localtime,/etc/hosts --overlay /srv/changes --bind /sys/fs/cgroup --bind /run/boxrun/boxes/web/conf:/etc/boxrun/box:ro `+
		`--bind /run/boxrun/boxes/web/conf/resolv.conf:/etc/resolv.conf:ro `+
		`--bind /run/boxrun/boxes/web/conf/hosts:/etc/hosts:ro --bind /run/boxrun/boxes/web/secrets:/etc/secrets:ro --bind /run/boxrun-journals/web:/etc/boxrun/journal `+
		`--security seccomp:/run/boxrun/boxes/web/seccomp.json --apply-cgroups /run/boxrun/boxes/web/cgroup.toml `+
		`--bind /usr/bin/boxrun:/sbin/init:ro /srv/web web`)
}
