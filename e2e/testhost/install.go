package testhost

import (
	"context"
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed web.toml
var webProfile string

// Build builds boxrun, probe, escape and hostile, as static binaries, into the directory bin.
func Build(ctx context.Context, bin string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin+"/", "boxrun/cmd/boxrun", "boxrun/e2e/cmd/probe",
		"boxrun/e2e/cmd/escape", "boxrun/e2e/cmd/hostile")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return finish(cmd, "go build of boxrun and its probes")
}

// Install copies to the host the programs Build left in bin, and a profile named web that runs WebImage.
func (h *Host) Install(ctx context.Context, bin string) error {
	for _, program := range []string{"boxrun", "probe"} {
		if err := h.Copy(ctx, filepath.Join(bin, program), "/usr/local/bin/"+program); err != nil {
			return err
		}
	}
	return h.Write(ctx, "/etc/boxrun/profiles/web.toml", 0o644, strings.NewReader(webProfile))
}
