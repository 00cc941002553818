package testhost

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Tailnet returns a directory with Tailscale's programs and a control server, as the module e2e/testhost/tailnet pins them:
// tailscale, tailscaled, control. What is not cached is built first, by way of the module proxy, and progress is called.
func Tailnet(ctx context.Context, progress func(string)) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", "boxrun/e2e/testhost").Output()
	if err != nil {
		return "", err
	}
	module := filepath.Join(strings.TrimSpace(string(root)), "tailnet")
	sum, err := sumOf(os.DirFS(module))
	if err != nil {
		return "", err
	}
	dir := filepath.Join(CacheDir(), "tailnet-"+sum)
	return dir, ensure(dir, progress, func(partial string) error {
		if err := os.Mkdir(partial, 0o755); err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, "go", "build", "-C", module, "-trimpath", "-ldflags", "-s -w", "-o", partial+"/",
			"./control", "tailscale.com/cmd/tailscale", "tailscale.com/cmd/tailscaled")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		return finish(cmd, "go build of Tailscale")
	})
}
