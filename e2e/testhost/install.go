package testhost

import (
	"context"
	_ "embed"
	"path/filepath"
	"strings"
)

//go:embed web.toml
var webProfile string

// Install puts boxrun and probe, static binaries in bin on the machine, on the host, and a profile named web that runs WebImage.
func (h *Host) Install(ctx context.Context, bin string) error {
	for _, program := range []string{"boxrun", "probe"} {
		if err := h.Copy(ctx, filepath.Join(bin, program), "/usr/local/bin/"+program); err != nil {
			return err
		}
	}
	return h.Write(ctx, "/etc/boxrun/profiles/web.toml", 0o644, strings.NewReader(webProfile))
}
