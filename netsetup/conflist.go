package netsetup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"boxrun/netsetup/leases"
	"boxrun/netsetup/rules"
)

// Conflist is the file by which Apptainer's CNI plugins know the bridge.
type Conflist struct {
	Path   string `json:"path"`
	Leases string `json:"leases"` // the directory of the host-local plugin for the network's leases
	Text   string `json:"text"`
}

// conflist builds the file. Each plugin costs start time, so there is only the plugin for the veth: ports, masquerade
// and firewall are boxrun's own rules.
func conflist(n Network) *Conflist {
	leases := filepath.Join(n.Dir, "leases")
	mtu := rules.WordsIf(n.MTU > 0, "\n      \"mtu\": %d,", n.MTU)
	text := fmt.Sprintf(`{
  "cniVersion": "0.4.0",
  "name": %q,
  "plugins": [
    {
      "type": "bridge",
      "bridge": %q,
      "isGateway": true,
      "ipMasq": false,
      "promiscMode": true,%s
      "ipam": {
        "type": "host-local",
        "dataDir": %q,
        "ranges": [[{"subnet": %q, "gateway": %q}]],
        "routes": [{"dst": "0.0.0.0/0"}]
      }
    }
  ]
}
`, n.Name(), n.Bridge, mtu, leases, n.Subnet, n.Gateway())
	return &Conflist{
		Path:   filepath.Join(n.Dir, "cni", n.Name()+".conflist"),
		Leases: filepath.Join(leases, n.Name()),
		Text:   text,
	}
}

func (c *Conflist) String() string { return c.Path }

func (c *Conflist) commands() (up, down []string) {
	dir := filepath.Dir(c.Path)
	up = []string{
		"mkdir -p " + dir,
		fmt.Sprintf("cat > %s <<'EOF'\n%sEOF", c.Path, c.Text),
	}
	return up, []string{
		"rm " + c.Path,
		fmt.Sprintf("rm -rf %s", c.Leases),
		removeEmptyCommand(dir, filepath.Dir(c.Leases)),
	}
}

func (c *Conflist) record(*Kernel) error { return nil } // the file is boxrun's own, by its name

func (c *Conflist) check(*Kernel) ([]string, error) { return checkText(c.Path, c.Text) }

// checkText returns a line where a file is missing or has another text.
func checkText(path, want string) ([]string, error) {
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return []string{path + " is missing"}, nil
	case err == nil && string(text) != want:
		return []string{path + " has been changed"}, nil
	}
	return nil, err
}

// ensure writes the file at once and whole: Apptainer gives up on a directory with a file that it cannot parse.
func (c *Conflist) ensure(*Kernel) error {
	if err := os.MkdirAll(filepath.Dir(c.Path), 0o755); err != nil {
		return err
	}
	return writeWhole(c.Path, c.Path+".new", c.Text)
}

// undo removes the file, the leases directory if no address is leased, and the directories above if they are empty.
func (c *Conflist) undo(*Kernel) error {
	return errors.Join(
		ignoreAbsent(os.Remove(c.Path)),
		ignoreAbsent(os.Remove(c.Path+".new")),
		removeLeases(c.Leases),
		removeEmpty(filepath.Dir(c.Path), filepath.Dir(c.Leases)))
}

// removeLeases removes what host-local leaves in a network's directory. A lease there is somebody's: then the
// directory stays.
func removeLeases(dir string) error {
	found, err := leases.Below(dir)
	if err != nil || len(found) > 0 {
		return err
	}
	return os.RemoveAll(dir)
}
