package netsetup

import (
	"strings"
	"testing"

	"boxrun/netsetup/nstest"
	"boxrun/netsetup/offload"
)

// A device whose driver does not turn off what it is asked to keeps nothing from working: what can be is turned off, and
// what cannot is told. A macvlan has tx, rx and sg fixed on, and takes the wish for gso and
// does not grant it; a bridge has no rx at all.
func TestADeviceThatRefusesFeatures(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	nstest.Shell(t, "ip link add veth0 type veth peer name veth1; ip link add link veth0 name fixed0 type macvlan; ip link set fixed0 up; ip link add bridge0 type bridge")
	k, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	const features = "ethtool -k fixed0 | grep -e tx-checksum-ip-generic -e '^scatter-gather' -e '^rx-checksumming' -e '^generic-seg'"
	if got, want := nstest.Shell(t, features), "rx-checksumming: on [fixed]\n\ttx-checksum-ip-generic: on [fixed]\nscatter-gather: on\n"; !strings.HasPrefix(got, want) {
		t.Fatalf("the device has:\n%s\nwant:\n%s", got, want)
	}
	for _, device := range []struct{ name, kept string }{
		{"fixed0", "rx-checksum tx-checksum-ip-generic tx-generic-segmentation tx-scatter-gather tx-scatter-gather-fraglist"},
		{"bridge0", ""},
		{"veth1", ""},
	} {
		before := nstest.Shell(t, "ethtool -k "+device.name)
		p := Plan{Owner: "boxrun:web", Features: &Features{offload.Turn{Device: device.name}}}
		if err := errorsOf(p.Record(k), p.Apply(k)); err != nil {
			t.Errorf("%s: got the error %v, want it to go on without them", device.name, err)
		}
		if drift, err := p.Drift(k); len(drift) > 0 || err != nil {
			t.Errorf("%s: drifted: %q, %v, want nothing that could be repaired", device.name, drift, err)
		}
		kept, err := p.Kept(k)
		if got := strings.Join(kept, " "); got != device.kept || err != nil {
			t.Errorf("%s: kept on: got %q, %v, want %q", device.name, got, err, device.kept)
		}
		if err := p.Undo(k); err != nil {
			t.Error(err)
		}
		if got := nstest.Shell(t, "ethtool -k "+device.name); got != before {
			t.Errorf("%s: after undo:\n%s\nwant:\n%s", device.name, got, before)
		}
	}
	if kept, err := (Plan{Features: &Features{offload.Turn{Device: "gone0"}}}).Kept(k); len(kept) > 0 || err != nil {
		t.Errorf("of a device that is gone: got %q, %v", kept, err)
	}
}
