package rules

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
)

// The backends of iptables. The kernel obeys the rules of both.
const (
	NFT    = "nft"
	Legacy = "legacy" // tables are kernel modules of their own
)

// ErrNoIptables is in the chain of the error where iptables is not installed.
var ErrNoIptables = errors.New("iptables is not installed")

// Backend returns the backend of a tool in $PATH, iptables or ip6tables: by the program behind the links of the name, as
// distributions install them, and otherwise as Version tells. An administrator may give each tool a backend of its own. The
// error wraps ErrNoIptables where the tool is not installed.
func Backend(tool string) (string, error) {
	backend, err := backendByName(tool)
	if backend != "" || err != nil {
		return backend, err
	}
	version, err := Version(tool)
	switch {
	case err != nil:
		return "", err
	case strings.Contains(version, "nf_tables"):
		return NFT, nil
	}
	return Legacy, nil
}

// backendByName returns the backend by the program behind the links, "" for a program of another name.
func backendByName(tool string) (string, error) {
	path, err := exec.LookPath(tool)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoIptables, err)
	}
	if path, err = filepath.EvalSymlinks(path); err == nil {
		switch filepath.Base(path) {
		case "xtables-nft-multi":
			return NFT, nil
		case "xtables-legacy-multi":
			return Legacy, nil
		}
	}
	return "", nil //nolint:nilerr // the program itself can tell
}

// Version returns what a tool, iptables or ip6tables, prints for "-V".
func Version(tool string) (string, error) {
	version, err := Run("", tool, "-V")
	return strings.TrimSpace(version), err
}

// Save reads the tables of a backend. Program is the backend's: "iptables", "iptables-legacy" or "iptables-nft".
// Options are options of iptables-save: "-c" for counters. Reading does not bring a table to life, as "iptables -S"
// does with the legacy backend. Errors are as of Parse.
func Save(program string, options ...string) (Tables, error) {
	out, err := Run("", program+"-save", options...)
	if err != nil {
		return nil, unread(err)
	}
	return Parse(program, out)
}

// Restore feeds lines to the restore of a program, which waits for another program that writes rules for so many seconds.
// Each table among the lines is a transaction. The error ends with the line at fault.
func Restore(program string, lines []string, seconds int) error {
	_, err := Run(strings.Join(lines, "\n")+"\n", program+"-restore", "--noflush", "-w", strconv.Itoa(seconds))
	if err == nil {
		return nil
	}
	if at := regexp.MustCompile(`line:? (\d+)`).FindStringSubmatch(err.Error()); at != nil {
		if n, _ := strconv.Atoi(at[1]); 0 < n && n <= len(lines) {
			return fmt.Errorf("%w: %s", err, lines[n-1])
		}
	}
	return err
}

// Tool returns the tool for rules about packets with addresses like addr: "iptables" or "ip6tables".
func Tool(addr netip.Addr) string {
	if addr.Is6() {
		return "ip6tables"
	}
	return "iptables"
}

// SaveOther reads the tables of a tool, iptables or ip6tables, in the other backend than the backend in use. There are none
// where the other backend, or the tool, is not installed, or the other backend was never used. No program is started where the
// kernel tells that there are no rules.
func SaveOther(tool string, options ...string) (Tables, error) {
	used, err := Backend(tool)
	if errors.Is(err, ErrNoIptables) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	program := tool + "-" + NFT
	if used == NFT {
		program = tool + "-" + Legacy
	}
	if said, bare := unruled(tool); bare && used == Legacy {
		return Parse(program, said)
	}
	if _, err := exec.LookPath(program + "-save"); err != nil || used == NFT && !LegacyUsed(tool) {
		return nil, nil //nolint:nilerr // not installed
	}
	return Save(program, options...)
}

// LegacyUsed reports whether the kernel has tables of the legacy backend of a tool. Asking iptables-legacy-save would load
// their modules.
func LegacyUsed(tool string) bool {
	names, err := os.ReadFile(tableNames(tool))
	return err == nil && len(names) > 0
}

// tableNames returns the file in which the kernel names the tables of the legacy backend of a tool, in the network of this
// thread. /proc/net is that of the first thread, which may be in the network of a box just then.
func tableNames(tool string) string {
	return "/proc/thread-self/net/" + strings.Replace(tool, "tables", "_tables_names", 1)
}

// Run runs a program, feeds stdin to the program and returns its output. If the program fails, the error has the
// command line, the exit status and what the program printed to stderr, on a single line.
func Run(stdin, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a control-C is for boxrun, to undo what was begun
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("running %s: %w: %s", strings.Join(cmd.Args, " "), err,
			strings.Join(strings.Fields(stderr.String()), " "))
	}
	return stdout.String(), nil
}

// WordsIf formats words of a command or a file where the words are needed, and returns "" where they are not.
func WordsIf(needed bool, format string, args ...any) string {
	if !needed {
		return ""
	}
	return fmt.Sprintf(format, args...)
}
