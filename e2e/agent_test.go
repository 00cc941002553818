package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"boxrun/e2e/testhost"
)

// agentFile is where Pacemaker looks for the agent ocf:boxrun:box.
const agentFile = "/usr/lib/ocf/resource.d/boxrun/box"

// exit codes of agents (OCF resource agent API 1.1)
const (
	ocfSuccess       = 0
	ocfGeneric       = 1
	ocfArgs          = 2
	ocfUnimplemented = 3
	ocfInstalled     = 5
	ocfConfigured    = 6
	ocfNotRunning    = 7
)

// agent runs the agent on the host as Pacemaker does, for the profile web unless a setting says otherwise. Settings are
// variables, without OCF_RESKEY_.
func (h host) agent(code int, reason, action string, settings ...string) testhost.Result {
	h.t.Helper()
	argv := []string{"env", "PATH=/sbin:/bin:/usr/sbin:/usr/bin", "OCF_RESKEY_profile=web"}
	for _, s := range settings {
		if !strings.HasPrefix(s, "OCF_CHECK_LEVEL") {
			s = "OCF_RESKEY_" + s
		}
		argv = append(argv, s)
	}
	r := h.run(append(argv, agentFile, action)...)
	if r.Code != code || reason != "" && !strings.Contains(r.Stderr, "ocf-exit-reason:"+reason) || code != 0 && code != ocfNotRunning && reason == "" {
		h.t.Errorf("%s %s: %v\nwant exit code %d, with the reason %q", action, settings, r, code, reason)
	}
	return r
}

// monitored are the settings of a monitor that is no probe.
func monitored(more ...string) []string {
	return append([]string{"CRM_meta_interval=10000", "CRM_meta_timeout=20000", "watch=0"}, more...)
}

// The agent does what Pacemaker's testers ask of agents, and what Pacemaker asks of a box, with the codes that tell where
// to start the box instead.
func TestTheAgentOfAPacemaker(t *testing.T) {
	h := bootHost(t, testhost.NewForCluster)
	h.sh("mkdir -p /srv")
	if err := h.CopyTree("../cluster/ocf/box", agentFile); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		test func(host)
	}{
		{"testers", host.agentPassesTesters},
		{"meta-data", host.agentDerivesTimeouts},
		{"refusals", host.agentTellsRefusalsApart},
		{"monitors", host.agentMonitors},
		{"busy", host.agentWaits},
		{"stops", host.agentStopsInTime},
		{"overlays", host.agentTakesOver},
		{"managers", host.managersAreTold},
		{"addresses", host.addressesCome},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(h.in(t)) })
	}
}

func (h host) agentPassesTesters() {
	before := h.dump()
	h.must("shellcheck", "-s", "sh", agentFile)
	h.sh("ocf-tester -n web -o profile=web -o repair=yes " + agentFile + " 2>&1 || { ocf-tester -v -n web -o profile=web " + agentFile + " 2>&1 >&2; exit 1; }")
	h.same(before, stays()...)
	h.sh("crm ra info ocf:boxrun:box | grep 'put rules back' > /dev/null")
	h.sh("pcs resource describe ocf:boxrun:box | tr -s ' \\n' ' ' | grep 'A probe never does'")
}

// agentDerivesTimeouts asks for the timeouts of a box in general, and of one with a profile.
func (h host) agentDerivesTimeouts() {
	h.profile("slow", "image = \"builtin:hello\"\n[systemd]\nstop_timeout = \"10m\"\n[ready]\ntimeout = \"90500ms\"\n")
	for profile, want := range map[string]string{"": "start 240s stop 150s", "slow": "start 242s stop 630s", "nosuch": "start 240s stop 150s"} {
		got := h.sh("OCF_RESKEY_profile=" + profile + " " + agentFile + ` meta-data | sed -n 's/.*name="\(start\|stop\)" timeout="\(.*\)".*/\1 \2/p' | xargs`)
		if strings.TrimSpace(got) != want {
			h.t.Errorf("meta-data of %q: got %s, want %s", profile, got, want)
		}
	}
}

// agentTellsRefusalsApart has a resource that is set up wrongly, profiles that are wrong on this host, and a host that
// lacks things. Nothing of that changes the host, and a probe finds nothing running.
func (h host) agentTellsRefusalsApart() {
	h.profile("broken", "image = 7\n")
	h.profile("lacking", "image = \"/srv/none.sif\"\n")
	before := h.dump()
	for _, action := range []string{"start", "validate-all"} {
		h.agent(ocfConfigured, `the parameter "profile" is not set`, action, "profile=")
		h.agent(ocfConfigured, `the parameter "repair" is neither yes nor no: perhaps`, action, "repair=perhaps")
		h.agent(ocfConfigured, `the parameter "watch" is no number of seconds: 3s`, action, "watch=3s")
		h.agent(ocfConfigured, `the parameter "watch" is no number of seconds: 100000`, action, "watch=100000")
		h.agent(ocfArgs, "/etc/boxrun/profiles/broken.toml:1: image: ", action, "profile=broken")
		h.agent(ocfInstalled, "this host has no profile nosuch", action, "profile=nosuch")
		h.agent(ocfInstalled, `/etc/boxrun/profiles/lacking.toml: image: no such file or directory: "/srv/none.sif"`, action, "profile=lacking")
		h.agent(ocfInstalled, "this host has no program /opt/boxrun", action, "boxrun=/opt/boxrun")
	}
	h.agent(ocfInstalled, "this host has no program /opt/boxrun", "monitor", "boxrun=/opt/boxrun")
	h.agent(ocfSuccess, "", "stop", "boxrun=/opt/boxrun")
	for _, profile := range []string{"broken", "lacking", "nosuch"} {
		h.agent(ocfNotRunning, "", "monitor", "profile="+profile)
		h.agent(ocfSuccess, "", "stop", "profile="+profile)
	}
	if r := h.run(agentFile, "promote"); r.Code != ocfUnimplemented {
		h.t.Errorf("promote: %v", r)
	}
	h.same(before)
}

// agentMonitors has a box that is well, drifts, hangs in its service, and dies.
func (h host) agentMonitors() {
	h.agent(ocfSuccess, "", "start")
	h.agent(ocfSuccess, "", "monitor")
	h.sh("boxrun status --check web") // knows the rules from now on
	// A thread may end in a call that strace cannot name, whose line is no program.
	ran := h.sh("OCF_RESKEY_profile=web strace -f -qq -z -e trace=execve -e signal=none -o /tmp/ran " + agentFile +
		` monitor; sed -n 's/.*execve("\([^"]*\)".*/\1/p' /tmp/ran; rm /tmp/ran`)
	if want := agentFile + "\n/usr/local/bin/boxrun\n"; ran != want {
		h.t.Errorf("a monitor of a box that is well runs\n%swant\n%s", ran, want)
	}
	h.t.Log(h.sh(`export OCF_RESKEY_profile=web TIMEFORMAT='%R s, %U s and %S s of processors for 20 monitors'
{ time for i in $(seq 20); do ` + agentFile + ` monitor; done; } 2>&1`))
	h.agent(ocfSuccess, "", "monitor", monitored("url=http://127.0.0.1:81/", "OCF_CHECK_LEVEL=0")...)
	h.agent(ocfSuccess, "", "monitor", monitored("url=http://192.0.2.1/", "OCF_CHECK_LEVEL=10")...)
	h.agent(ocfGeneric, "http://192.0.2.1:81/: curl: (7)", "monitor", monitored("url=http://192.0.2.1:81/", "OCF_CHECK_LEVEL=10")...)
	h.sh("iptables -t nat -F BOXRUN-DN-web")
	for _, settings := range [][]string{monitored(), {"repair=yes"}, monitored("repair=no")} {
		h.agent(ocfSuccess, "", "monitor", settings...)
		h.isWell(0, 12, "web: drifted")
	}
	h.agent(ocfSuccess, "", "monitor", monitored("repair=yes")...)
	h.isWell(0, 0, "web: healthy")
	h.must("boxrun", "exec", "web", "--", "systemctl", "stop", "nginx")
	h.agent(ocfGeneric, "web: unhealthy: unit nginx.service is inactive (dead)", "monitor", monitored("repair=yes")...)
	h.must("boxrun", "exec", "web", "--", "systemctl", "start", "nginx")
	h.agentHearsOfACrash()
	h.agent(ocfSuccess, "", "stop")
	h.agent(ocfNotRunning, "", "monitor")
}

// agentHearsOfACrash kills a box while a monitor watches it: the monitor ends long before its time, and a monitor that
// finds nothing wrong takes as long as it was told to.
func (h host) agentHearsOfACrash() {
	h.agent(ocfSuccess, "", "monitor")                           // a probe, after which
	h.agent(ocfSuccess, "", "monitor", monitored("watch=60")...) // a monitor does not watch
	began := time.Now()
	h.agent(ocfSuccess, "", "monitor", monitored("watch=2")...)
	if took := time.Since(began); took < 2*time.Second {
		h.t.Errorf("a monitor that watches for 2 s took %v", took)
	}
	killed := h.Command(h.t.Context(), "sh", "-c", "sleep 0.5; kill -9 $0", fmt.Sprint(boxes(h)[0].PID))
	if err := killed.Start(); err != nil {
		h.t.Fatal(err)
	}
	began = time.Now()
	h.agent(ocfGeneric, "web: crashed", "monitor", monitored("watch=60", "CRM_meta_timeout=90000")...)
	if took := time.Since(began); took > time.Minute {
		h.t.Errorf("a monitor that watches a box that dies took %v", took)
	}
	if err := killed.Wait(); err != nil {
		h.t.Error(err)
	}
}

// agentWaits has a person restart the box while Pacemaker watches: monitors from before to after see it well.
func (h host) agentWaits() {
	h.agent(ocfSuccess, "", "start")
	restarted := h.Command(h.t.Context(), "boxrun", "restart", "web")
	if err := restarted.Start(); err != nil {
		h.t.Fatal(err)
	}
	for range 8 {
		h.agent(ocfSuccess, "", "monitor", monitored()...)
	}
	if err := restarted.Wait(); err != nil {
		h.t.Errorf("restart: %v", err)
	}
	h.agent(ocfSuccess, "", "stop")
	h.must("boxrun", "enable", "web")
	if r := h.agent(ocfSuccess, "", "start"); !strings.Contains(r.Stderr, "warning: web is enabled on this host") {
		h.t.Errorf("start of a box that is enabled: %v", r)
	}
	h.agent(ocfSuccess, "", "stop")
	h.must("boxrun", "disable", "web")
	h.agentWaitsInVain()
}

// agentWaitsInVain has a box that does not become ready: a monitor says why before its time is over. Its parameter begins with
// a 0, which a shell would take for octal.
func (h host) agentWaitsInVain() {
	h.profile("never", "image = \"/srv/web\"\n[ready]\nunits = [\"nosuch.service\"]\n")
	h.sh("systemd-run -q --unit=up-never boxrun up never; until boxrun status --check never | grep -q 'not ready: unit nosuch'; do sleep 0.1; done")
	h.agent(ocfGeneric, "never: not ready: unit nosuch.service", "monitor", monitored("profile=never", "watch=08", "CRM_meta_timeout=14000")...)
	h.must("systemctl", "stop", "up-never")
	h.must("boxrun", "down", "never")
}

// agentStopsInTime has a box that does not stop, and an operation with less time than the profile gives: the box is
// killed in time, for otherwise Pacemaker would have the host fenced.
func (h host) agentStopsInTime() {
	h.agent(ocfSuccess, "", "start")
	h.sh(`boxrun exec web -- systemd-run -q -p KillMode=none --service-type=exec -p TimeoutStopSec=100 -p ExecStop="/bin/sleep 100" sleep 1000`)
	began := time.Now()
	r := h.agent(ocfSuccess, "", "stop", "CRM_meta_timeout=4000")
	if took := time.Since(began); took > 4*time.Second || !strings.Contains(r.Stderr, "web has 2 s to stop in place of 120 s") {
		h.t.Errorf("stop took %v: %v", took, r)
	}
	h.agent(ocfNotRunning, "", "monitor")
}

// offline has the tools of Pacemaker work with the configuration on the disk of the host, where no Pacemaker runs.
const offline = "CIB_file=/var/lib/pacemaker/cib/cib.xml"

// agentTakesOver has an overlay that is marked as another machine's: a start takes the overlay over where the resource says
// so, and the cluster fences.
func (h host) agentTakesOver() {
	h.profile("kept", "image = \"builtin:hello\"\n[storage]\nroot = \"overlay\"\noverlay = \"/var/kept\"\n")
	h.sh("mkdir /var/kept; " + `echo '{"machine":"0123456789abcdef","host":"node9","box":"kept"}' > /var/kept/boxrun-owner.json`)
	h.sh("cibadmin --empty > /var/lib/pacemaker/cib/cib.xml")
	settings := []string{"profile=kept", "takeover=yes"}
	refused := `/etc/boxrun/profiles/kept.toml: storage.overlay: "/var/kept" is the overlay of box "kept" on the machine node9`
	h.agent(ocfInstalled, refused, "start", "profile=kept")
	h.sh(offline + " crm_attribute -q -n stonith-enabled -v false")
	r := h.run("env", offline, "OCF_RESKEY_profile=kept", "OCF_RESKEY_takeover=yes", agentFile, "start")
	if r.Code != ocfInstalled || !strings.Contains(r.Stderr, "as this cluster does not fence") {
		h.t.Errorf("start without fencing: %v", r)
	}
	h.agent(ocfConfigured, `the parameter "takeover" is neither yes nor no: perhaps`, "start", "profile=kept", "takeover=perhaps")
	for fences, takeover := range map[string]string{"-v TRUE": "TRUE", "-v y": "Y", "-v On": "oN", "-v 1": "1", "-D": "yes"} {
		h.sh(offline + " crm_attribute -q -n stonith-enabled " + fences)
		h.must("env", offline, "OCF_RESKEY_profile=kept", "OCF_RESKEY_takeover="+takeover, agentFile, "validate-all")
	}
	for _, takeover := range []string{"n", "FALSE", "oFF", "0"} {
		h.agent(ocfInstalled, refused, "start", "profile=kept", "takeover="+takeover)
	}
	h.must("env", offline, "OCF_RESKEY_profile=kept", "OCF_RESKEY_takeover=yes", agentFile, "start")
	h.sh("grep -v node9 /var/kept/boxrun-owner.json")
	h.agent(ocfSuccess, "", "stop", settings...)
	h.sh("test ! -e /var/kept/boxrun-owner.json; rm -r /var/lib/pacemaker/cib/*")
}

// managersAreTold enables a box that the cluster manages, and one that it does not.
func (h host) managersAreTold() {
	h.sh("cibadmin --empty > /var/lib/pacemaker/cib/cib.xml; " + offline + `; pcs -f $CIB_file resource create the-site ocf:boxrun:box profile=web --force`)
	if r := h.run("boxrun", "enable", "web", "hello"); r.Code != 0 ||
		!strings.Contains(r.Stderr, `web: warning: Pacemaker starts it too, as the resource "the-site": "boxrun disable web"`) ||
		strings.Count(r.Stderr, "warning") != 1 {
		h.t.Errorf("enable: %v", r)
	}
	got := h.sh("boxrun doctor --json | jq -r '" + `.[] | select(.name == "pacemaker") | .status, .found, .fix` + "'")
	want := "WARN\nweb is enabled on this host, and is the resource \"the-site\" of Pacemaker\nboxrun disable web\n"
	if got != want {
		h.t.Errorf("doctor: %s, want %s", got, want)
	}
	h.sh("boxrun disable web hello; rm -r /var/lib/pacemaker/cib/*")
}

// addressesCome has ports on an address that the host does not have yet, and on an interface that gets another address
// later, as virtual addresses do. The agent's monitors have them served.
func (h host) addressesCome() {
	h.profile("late", "image = \"builtin:hello\"\n[network]\nports = [\"192.0.2.77:8090:80\"]\n")
	h.profile("beside", "image = \"builtin:hello\"\n[network]\nexternal = \"eth0\"\nports = [\"8091:80\"]\n")
	for _, profile := range []string{"late", "beside"} {
		h.agent(ocfSuccess, "", "start", "profile="+profile)
		h.agent(ocfSuccess, "", "monitor", monitored("profile="+profile, "repair=yes")...)
	}
	h.must("ip", "addr", "add", "192.0.2.77/24", "dev", "eth0")
	h.agent(ocfSuccess, "", "monitor", monitored("profile=beside", "repair=yes")...)
	for _, port := range []string{"8090", "8091"} {
		h.client("curl", "-fsS", "-o", "/dev/null", "-m", "2", "http://192.0.2.77:"+port+"/")
	}
	h.must("ip", "addr", "del", "192.0.2.77/24", "dev", "eth0")
	for _, profile := range []string{"late", "beside"} {
		h.agent(ocfSuccess, "", "monitor", monitored("profile="+profile, "repair=yes")...)
		h.agent(ocfSuccess, "", "stop", "profile="+profile)
	}
}
