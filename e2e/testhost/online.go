package testhost

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
)

// Online runs a command on the host as Exec does, but in the machine's network and with its name servers: the way to
// what a host on its wire does not reach, Debian's mirrors and PyPI. GoOnline comes before it.
func (h *Host) Online(ctx context.Context, argv ...string) (Result, error) {
	const withNames = `mount --bind /etc/machine.resolv.conf /etc/resolv.conf; exec "$@"`
	argv = append([]string{"unshare", "--mount", "sh", "-ec", withNames, "sh"}, argv...)
	return outcome(ctx, h.enter(ctx, []string{"-m", "-u", "-i", "-p", "-C"}, argv))
}

// GoOnline gives the host what commands of Online need of the machine: its name servers, the certificates that it trusts
// and, where it has one, its pip.conf.
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
