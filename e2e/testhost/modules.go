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
	return programsOf(ctx, "tailnet", progress, "tailscale.com/cmd/tailscale", "tailscale.com/cmd/tailscaled")
}

// Kube is Tailnet for kube-proxy and an API server, as the module e2e/testhost/kube pins them: kube-proxy, control.
func Kube(ctx context.Context, progress func(string)) (string, error) {
	return programsOf(ctx, "kube", progress, "k8s.io/kubernetes/cmd/kube-proxy")
}

// programsOf returns a directory with the program control of a module beside this package, and with packages that the module requires.
func programsOf(ctx context.Context, name string, progress func(string), packages ...string) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", "boxrun/e2e/testhost").Output()
	if err != nil {
		return "", err
	}
	module := filepath.Join(strings.TrimSpace(string(root)), name)
	sum, err := sumOf(os.DirFS(module))
	if err != nil {
		return "", err
	}
	dir := filepath.Join(CacheDir(), name+"-"+sum)
	return dir, ensure(dir, progress, func(partial string) error {
		if err := os.Mkdir(partial, 0o755); err != nil {
			return err
		}
		args := []string{"build", "-C", module, "-trimpath", "-ldflags", "-s -w", "-o", partial + "/", "./control"}
		cmd := exec.CommandContext(ctx, "go", append(args, packages...)...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		return finish(cmd, "go build of the programs of "+name)
	})
}
