package confine

import (
	"path/filepath"

	"boxrun/launcher/files"
)

// advertised matches the settings for what routers on the network say of themselves.
const advertised = "/proc/sys/net/ipv6/conf/*/accept_ra"

// TakeNoAdvertisements has no device in the caller's network take what a router says, now or later: on a bridge any
// neighbour of a box may play the router. A kernel without IPv6 has nothing to set.
func TakeNoAdvertisements() error {
	settings, _ := filepath.Glob(advertised) // the pattern is well-formed
	for _, file := range settings {
		if err := files.WriteExisting(file, "0"); files.IgnoreNotExist(err) != nil {
			return err
		}
	}
	return nil
}

// TypedNoAdvertisements returns the command to type in place of TakeNoAdvertisements, in the network of a process.
func TypedNoAdvertisements(pid string) string {
	return "nsenter -t " + pid + " -n sh -c 'for f in " + advertised + "; do echo 0 > $f; done'"
}
