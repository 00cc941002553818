package box

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"

	"github.com/google/uuid"

	"boxrun/launcher/files"
)

// machineIDFile is the ID of the host (machine-id(5)).
const machineIDFile = "/etc/machine-id"

// MachineID returns the machine ID of the named box, as a UUID: the same at each start on this host, and another for
// each box and each host. A systemd in the box writes the ID to /etc/machine-id if the image has none
// (https://systemd.io/CONTAINER_INTERFACE, container_uuid). The host's own ID is not to be learned from the result, as
// machine-id(5) asks. On a host without an ID the result depends on the name alone.
func MachineID(name string) (string, error) {
	host, err := files.ReadIfThere(machineIDFile)
	if err != nil {
		return "", fmt.Errorf("reading the host's machine ID: %w", err)
	}
	return machineID(host, name), nil
}

func machineID(host, name string) string {
	sum := hmac.New(sha256.New, []byte(host))
	sum.Write([]byte("boxrun " + name))
	id := uuid.UUID(sum.Sum(nil)[:16])
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // a random UUID, as RFC 9562 has the bits
	return id.String()
}
