package testhost

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
)

// Online runs a command on the host as Exec does, but with the network and the name servers of the machine. So the
// command reaches Debian's mirrors and PyPI, out of reach over the host's wire. Call GoOnline first.
func (h *Host) Online(ctx context.Context, argv ...string) (Result, error) {
	const withNames = `mount --bind /etc/machine.resolv.conf /etc/resolv.conf; exec "$@"`
	argv = append([]string{"unshare", "--mount", "sh", "-ec", withNames, "sh"}, argv...)
	return outcome(ctx, h.enter(ctx, []string{"-m", "-u", "-i", "-p", "-C"}, argv))
}

// GoOnline copies to the host the files of the machine that Online needs: the name servers, the trusted certificates
// and, if there is one, pip.conf.
func (h *Host) GoOnline(ctx context.Context) error {
	for _, file := range []struct{ src, dst string }{
		{"/etc/resolv.conf", "/etc/machine.resolv.conf"},
		{"/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/ca-certificates.crt"},
		{"/etc/pip.conf", "/etc/pip.conf"},
	} {
		if err := h.Copy(ctx, file.src, file.dst); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("giving %s to %s: %w", file.src, h.name, err)
		}
	}
	return nil
}
