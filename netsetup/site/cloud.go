package site

import (
	"os"
	"path/filepath"
	"strings"
)

// Cloud returns the name of the cloud that the host is a machine of, by what its firmware says below root; "" for none that
// is known.
func Cloud(root string) string {
	for _, file := range []string{"sys_vendor", "product_version", "product_name", "bios_vendor", "chassis_asset_tag"} {
		text, _ := os.ReadFile(filepath.Join(root, "sys/class/dmi/id", file)) // missing on many machines
		for _, c := range []struct{ mark, name string }{
			{"amazon", "Amazon EC2"}, {"google", "Google Cloud"}, {"openstack", "OpenStack"},
			{"7783-7084-3265-9085-8269-3286-77", "Microsoft Azure"}, {"oraclecloud", "Oracle Cloud"},
			{"alibaba cloud", "Alibaba Cloud"}, {"hetzner", "Hetzner Cloud"}, {"digitalocean", "DigitalOcean"},
		} {
			if strings.Contains(strings.ToLower(string(text)), c.mark) {
				return c.name
			}
		}
	}
	return ""
}
