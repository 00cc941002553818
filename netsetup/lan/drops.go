package lan

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"boxrun/netsetup/site"
)

// Drops returns why packets of other MACs than the device's own get lost on the LAN of a device, "" where they are not known
// to: by facts of sysfs below root. Of a bridge, a bond or a VLAN the devices below count.
func Drops(root, device string) string {
	dir := filepath.Join(root, "sys/class/net", device)
	switch driver, _ := os.Readlink(filepath.Join(dir, "device/driver")); {
	case exists(filepath.Join(dir, "phy80211")), exists(filepath.Join(dir, "wireless")):
		return device + " is wireless, and an access point drops packets of MACs that have not joined"
	case filepath.Base(driver) == "ena":
		return device + " is a card of Amazon EC2, which drops packets of other MACs than the card's own"
	case driver != "":
		if cloud := site.Cloud(root); cloud != "" {
			return fmt.Sprintf("%s is a card of %s, which drops packets of other MACs than the card's own", device, cloud)
		}
	}
	below, _ := filepath.Glob(filepath.Join(dir, "lower_*")) // of a device without strange characters in its name
	for _, lower := range below {
		if why := Drops(root, strings.TrimPrefix(filepath.Base(lower), "lower_")); why != "" {
			return why
		}
	}
	return ""
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
