package apptainer

import (
	"net/netip"
	"strings"
	"testing"

	"boxrun/profiles"
)

func TestStartArgv(t *testing.T) {
	const begin = "apptainer -c /run/boxrun/apptainer.conf instance start --boot --net --network boxrun-sbr0" +
		" --network-args IP=10.22.0.2 --hostname web.example.org --no-home --no-mount /etc/localtime,/etc/hosts"
	tests := map[string]struct {
		change func(*Start)
		want   string
	}{
		"a root in memory": {
			func(*Start) {},
			begin + " --writable-tmpfs --bind /sys/fs/cgroup /srv/web.sif web",
		},
		"a read-only root": {
			func(s *Start) { s.Profile.Storage.Root = "read-only" },
			begin + " --bind /sys/fs/cgroup /srv/web.sif web",
		},
		"an overlay": {
			func(s *Start) {
				s.Profile.Storage.Root, s.Profile.Storage.Overlay = "overlay", "/var/lib/boxrun/web/overlay"
			},
			begin + " --overlay /var/lib/boxrun/web/overlay --bind /sys/fs/cgroup /srv/web.sif web",
		},
		"a hosts file of the profile's own takes the place of boxrun's": {
			func(s *Start) {
				s.Binds = []string{"/run/boxrun/boxes/web/conf/resolv.conf:/etc/resolv.conf:ro", "/run/boxrun/boxes/web/conf/hosts:/etc/hosts:ro"}
				s.Profile.Storage.Binds = []profiles.Bind{{Source: "/srv/hosts", Target: "/etc/hosts", ReadOnly: true}}
			},
			begin + " --writable-tmpfs --bind /sys/fs/cgroup --bind /run/boxrun/boxes/web/conf/resolv.conf:/etc/resolv.conf:ro" +
				" --bind /srv/hosts:/etc/hosts:ro /srv/web.sif web",
		},
		"the host's network": {
			func(s *Start) { s.Profile.Network.Mode = profiles.HostMode },
			"apptainer -c /run/boxrun/apptainer.conf instance start --boot --netns-path /proc/1/ns/net" +
				" --hostname web.example.org --no-home --no-mount /etc/localtime,/etc/hosts --writable-tmpfs --bind /sys/fs/cgroup /srv/web.sif web",
		},
		"no network": {
			func(s *Start) { s.Profile.Network.Mode = profiles.NoneMode },
			"apptainer -c /run/boxrun/apptainer.conf instance start --boot --net --network none" +
				" --hostname web.example.org --no-home --no-mount /etc/localtime,/etc/hosts --writable-tmpfs --bind /sys/fs/cgroup /srv/web.sif web",
		},
		"the profile's binds come after boxrun's, and its flags last": {
			func(s *Start) {
				s.Binds = []string{"/run/boxrun/boxes/web/conf/hosts:/etc/hosts:ro"}
				s.Profile.Storage.Binds = []profiles.Bind{{Source: "/srv/a", Target: "/a"}, {Source: "/srv/b", Target: "/b", ReadOnly: true}}
				s.Profile.Apptainer.Args = []string{"--nv"}
			},
			begin + " --writable-tmpfs --bind /sys/fs/cgroup --bind /run/boxrun/boxes/web/conf/hosts:/etc/hosts:ro" +
				" --bind /srv/a:/a --bind /srv/b:/b:ro --nv /srv/web.sif web",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := profiles.Default()
			p.Name, p.Hostname = "web", "web.example.org"
			s := Start{
				Conf: "/run/boxrun/apptainer.conf", Profile: p, Image: "/srv/web.sif", Network: "boxrun-sbr0",
				Addr: netip.MustParseAddr("10.22.0.2"),
			}
			test.change(&s)
			if got := strings.Join(s.Argv(), " "); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// Apptainer, and through Apptainer the box's init, gets only the variables named here from boxrun.
func TestEnvironmentIsMinimal(t *testing.T) {
	t.Setenv("APPTAINER_BIND", "/etc")
	t.Setenv("NOTIFY_SOCKET", "/run/notify")
	got := strings.Join(Environment("/root"), "\n")
	want := "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nHOME=/root\nTERM=linux\nLANG=C.UTF-8\ncontainer=apptainer"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
