package lan

import (
	"os"
	"path/filepath"
	"testing"

	"boxrun/netsetup/nstest"
)

// The facts are those of sysfs on such machines, which no test host can be.
func TestDrops(t *testing.T) {
	const card = "sys/class/net/eth0/"
	amazon := map[string]string{"sys/class/dmi/id/sys_vendor": "Amazon EC2\n"}
	for _, test := range []struct {
		name, device, driver string
		files                map[string]string
		want                 string
	}{
		{"a wired card", "eth0", "e1000e", map[string]string{card + "address": ""}, ""},
		{"virtio of a machine at home", "eth0", "virtio_net", map[string]string{"sys/class/dmi/id/sys_vendor": "QEMU\n"}, ""},
		{"virtio in a cloud", "eth0", "virtio_net", map[string]string{"sys/class/dmi/id/sys_vendor": "Hetzner\n"},
			"eth0 is a card of Hetzner Cloud, which drops packets of other MACs than the card's own"},
		{"hv_netvsc in Azure", "eth0", "hv_netvsc", map[string]string{"sys/class/dmi/id/chassis_asset_tag": "7783-7084-3265-9085-8269-3286-77\n"},
			"eth0 is a card of Microsoft Azure, which drops packets of other MACs than the card's own"},
		{"Xen's card on EC2", "eth0", "vif", amazon, "eth0 is a card of Amazon EC2, which drops packets of other MACs than the card's own"},
		{"Xen's card elsewhere", "eth0", "vif", map[string]string{"sys/class/dmi/id/sys_vendor": "Xen\n"}, ""},
		{"ena, whatever the firmware says", "eth0", "ena", map[string]string{card + "address": ""},
			"eth0 is a card of Amazon EC2, which drops packets of other MACs than the card's own"},
		{"wireless", "wlan0", "iwlwifi", map[string]string{"sys/class/net/wlan0/phy80211/name": "phy0"},
			"wlan0 is wireless, and an access point drops packets of MACs that have not joined"},
		{"a VLAN on a bond of EC2", "bond0.7", "", map[string]string{"sys/class/net/bond0.7/lower_bond0": "", "sys/class/net/bond0/lower_eth0": "",
			card + "address": ""}, "eth0 is a card of Amazon EC2, which drops packets of other MACs than the card's own"},
		{"a device of the host's own making in a cloud", "dummy0", "", amazon, ""},
	} {
		root := nstest.Root(t, test.files)
		place, driver := test.device, test.driver
		if place == "bond0.7" {
			place, driver = "eth0", "ena"
		}
		if driver != "" {
			dir := filepath.Join(root, "sys/class/net", place, "device")
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("../../../../bus/drivers/"+driver, filepath.Join(dir, "driver")); err != nil {
				t.Fatal(err)
			}
		}
		want(t, test.name, Drops(root, test.device), test.want)
	}
}
