package rules

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/netsetup/small"

	"golang.org/x/sys/unix"
)

// A Memory keeps what a program said of the rules for the next process, in a file of root's alone: the saves of iptables
// and ip6tables, and nft. The zero Memory keeps nothing.
type Memory struct {
	Dir   string // of the files, one for each program
	While string // a file or directory: after its end nothing is kept
}

// Files returns the files that a Memory may have.
func (m Memory) Files() []string {
	return []string{m.file("iptables"), m.file("ip6tables"), m.file("nft")}
}

func (m Memory) file(program string) string { return filepath.Join(m.Dir, program+".kept-rules") }

// NFT returns what "nft -j list ruleset" prints, but for boxrun's own chains, kept or anew. Elements of sets that come with
// packets or go with time do not change the number of the rules: a text with such sets is not kept. Where the base chains are not
// wanted, nft is not started, and the text is an empty object.
func (m Memory) NFT(wanted func([]BaseChain) bool) (said string, err error) {
	before, err := generation()
	numbered := err == nil
	if numbered {
		if said := m.recall("nft", before); said != "" {
			return said, nil
		}
	}
	if chains, unknown := BaseChains(); unknown == nil && !wanted(chains) {
		said, err = "{}", nil
	} else if said, err = Run("", "nft", "-j", "list", "ruleset"); err == nil {
		said, err = withoutOwn(said)
	}
	if now, late := generation(); numbered && err == nil && late == nil && now == before && !passing(said) {
		m.keep("nft", now, said)
	}
	return said, err
}

// passing reports whether a listing of nft in JSON may change while the number of the rules stays: elements of sets come and go,
// and a device that the kernel knows by its number may get another name. lo keeps its name.
func passing(listing string) bool {
	listing = strings.ReplaceAll(listing, `"key":"iif"}},"right":"lo"`, "")
	listing = strings.ReplaceAll(listing, `"key":"oif"}},"right":"lo"`, "")
	return slices.ContainsFunc([]string{`"timeout"`, `"dynamic"`, `"meter"`, `"iface_index"`, `"key":"iif"`, `"key":"oif"`},
		func(word string) bool { return strings.Contains(listing, word) })
}

// withoutOwn returns a listing of nft in JSON without boxrun's own chains and their rules, of which each box has many.
func withoutOwn(listing string) (string, error) {
	var all struct {
		Nftables []json.RawMessage `json:"nftables"`
	}
	if err := json.Unmarshal([]byte(listing), &all); err != nil {
		return "", fmt.Errorf("reading what nft -j list ruleset printed: %w", err)
	}
	all.Nftables = slices.DeleteFunc(all.Nftables, func(object json.RawMessage) bool {
		return bytes.Contains(object, []byte(`"chain": "`+ChainPrefix)) || bytes.Contains(object, []byte(`"name": "`+ChainPrefix))
	})
	kept, err := json.Marshal(all)
	return string(kept), err
}

// follow keeps what nft said of the rules with the number before for those with the number now, where changes of boxrun's
// alone came between: the listing has none of boxrun's chains, and of the tables of iptables nobody reads in it.
func (m Memory) follow(before, now uint32) {
	if said := m.recall("nft", before); said != "" {
		m.keep("nft", now, said)
	}
}

// recall returns what the save of a program said of the rules with a number, "" for nothing kept. A file that somebody else
// could have written, or that is about other rules, counts as none.
func (m Memory) recall(program string, generation uint32) string {
	if m.Dir == "" {
		return ""
	}
	f, err := os.OpenFile(m.file(program), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	var info unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &info)
	if err != nil || info.Mode != unix.S_IFREG|0o600 || int(info.Uid) != os.Geteuid() {
		return ""
	}
	content := make([]byte, info.Size)
	if n, err := f.Read(content); err != nil || n < len(content) {
		return ""
	}
	about, said, _ := strings.Cut(string(content), "\n")
	if about != aboutRules(program, generation, len(said)) {
		return ""
	}
	return said
}

// keep keeps what the save of a program said. Errors are no matter: the next process runs the program. The file under
// While is looked for after the writing, and so no file stays behind whoever removes While before the other files.
func (m Memory) keep(program string, generation uint32, said string) {
	about := aboutRules(program, generation, len(said))
	if m.Dir == "" || about == "" || unix.Access(m.While, unix.F_OK) != nil {
		return
	}
	f, err := os.CreateTemp(m.Dir, "."+program+".*.new") // with mode 0600
	if err != nil {
		return
	}
	defer f.Close()
	_, err = f.WriteString(about + "\n")
	if err == nil {
		_, err = f.WriteString(said)
	}
	if err == nil {
		err = os.Rename(f.Name(), m.file(program))
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	if unix.Access(m.While, unix.F_OK) != nil {
		_ = os.Remove(m.file(program))
		_ = os.Remove(m.Dir) // fails, as it should, where something is in it
	}
}

// aboutRules is a line that is the same only for the same rules as printed by the same program: numbers of rules begin anew
// with each network namespace, and those of namespaces with each boot. "" where that is unknown.
func aboutRules(program string, generation uint32, length int) string {
	if program != "nft" {
		program += "-save"
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return ""
	}
	var save, network unix.Stat_t
	boot, bootErr := small.Read("/proc/sys/kernel/random/boot_id")
	if bootErr != nil || unix.Stat(path, &save) != nil || unix.Stat("/proc/thread-self/ns/net", &network) != nil {
		return ""
	}
	return fmt.Sprintf("boxrun 1 %s %d:%d:%d %s %d:%d:%d %d %d", strings.TrimSpace(string(boot)), network.Dev, network.Ino,
		networkCookie(), path, save.Dev, save.Ino, save.Mtim.Nano(), generation, length)
}

// networkCookie returns a number that no other network namespace has until the next boot; 0 before Linux 5.14.
func networkCookie() uint64 {
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(s)
	cookie, _ := unix.GetsockoptUint64(s, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	return cookie
}
