package apptainer

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"boxrun/launcher/fault"
)

// Look returns the path of the apptainer command, or ErrRefused where apptainer is not installed. Look also knows
// directories missing from sudo's secure_path.
func Look() (string, error) {
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/local/bin", "/usr/bin", "/opt/apptainer/bin") {
		path := filepath.Join(dir, "apptainer")
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fault.Refused("install the package apptainer (starter-suid is not needed)",
		"apptainer is not installed, or not on $PATH")
}

// Version returns Apptainer's version, as in "1.4.5-2".
func Version(ctx context.Context) (string, error) {
	path, err := Look()
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("running %s --version: %w", path, err)
	}
	fields := strings.Fields(string(out))
	if len(fields) == 0 {
		return "", fmt.Errorf("running %s --version: it says nothing", path)
	}
	return fields[len(fields)-1], nil
}

// TooOld reports whether a version is older than 1.4, the first with --netns-path. A version TooOld cannot parse counts
// as new enough: Apptainer itself will report a missing feature.
func TooOld(version string) bool {
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	m, err := strconv.Atoi(major)
	n, errMinor := strconv.Atoi(minor)
	return err == nil && errMinor == nil && (m < 1 || m == 1 && n < 4)
}
