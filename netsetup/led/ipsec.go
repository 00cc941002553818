package led

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"boxrun/netsetup/dump"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// policies returns the policies of IPsec of the family of an address, the first to count first. A host whose kernel knows no
// IPsec, or has not loaded it, has none; nor are any known to a user who may not ask.
func (h *Host) policies(family int) ([]netlink.XfrmPolicy, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if list, known := h.ipsec[family]; known {
		return list, nil
	}
	list, err := listPolicies(family)
	if err != nil {
		return nil, fmt.Errorf("listing the policies of IPsec: %w", err)
	}
	if h.ipsec == nil {
		h.ipsec = map[int][]netlink.XfrmPolicy{}
	}
	h.ipsec[family] = list
	return list, nil
}

func listPolicies(family int) ([]netlink.XfrmPolicy, error) {
	if there, err := AnswersIPsec(); !there || err != nil {
		return nil, err
	}
	list, err := dump.Retry(func() ([]netlink.XfrmPolicy, error) { return dump.OfHost().XfrmPolicyList(family) })
	if errors.Is(err, unix.EPERM) {
		return nil, nil
	}
	slices.SortStableFunc(list, func(a, b netlink.XfrmPolicy) int { return cmp.Compare(a.Priority, b.Priority) })
	return list, err
}

// AnswersIPsec reports whether the kernel answers questions for IPsec. To open a socket to the kernel would load the module.
func AnswersIPsec() (bool, error) { return answersXfrm("/proc/thread-self/net/netlink") }

// answersXfrm reports whether the kernel's list of its netlink sockets has that for IPsec.
func answersXfrm(file string) (bool, error) {
	text, err := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[1] == fmt.Sprint(unix.NETLINK_XFRM) && fields[2] == "0" {
			return true, nil
		}
	}
	return false, err
}

// secured returns the detours of the packets to a box, and from the box, that a policy of IPsec takes or blocks.
func secured(list []netlink.XfrmPolicy, box netip.Addr) (found []Detour) {
	for _, dir := range []netlink.Dir{netlink.XFRM_DIR_OUT, netlink.XFRM_DIR_FWD} {
		i := slices.IndexFunc(list, func(p netlink.XfrmPolicy) bool { return p.Dir == dir && takes(p, box) })
		if i < 0 || list[i].Action == netlink.XFRM_POLICY_ALLOW && len(list[i].Tmpls) == 0 {
			continue // the policy that comes first lets all pass
		}
		selector := fmt.Sprintf("%s src %s dst %s", dir, dump.PrefixOf(list[i].Src), dump.PrefixOf(list[i].Dst))
		does := "encrypts"
		if list[i].Action == netlink.XFRM_POLICY_BLOCK {
			does = "blocks"
		}
		found = append(found, Detour{
			Text: fmt.Sprintf("a policy of IPsec %s packets of %s, and of others: %s", does, box, selector),
			Hint: fmt.Sprintf("\"ip xfrm policy delete %s\" takes the policy away until the program that made it does so again", selector),
		})
	}
	return found
}

// takes reports whether a policy is for all packets between a box and its neighbours, or between the box and anybody. What
// takes a part of the packets, by port, mark or device, is left out.
func takes(p netlink.XfrmPolicy, box netip.Addr) bool {
	whole := p.Proto == 0 && p.SrcPort == 0 && p.DstPort == 0 && p.Ifindex == 0 && p.Ifid == 0 && p.Mark == nil
	in := func(n *net.IPNet) bool { return dump.PrefixOf(n).Contains(box) }
	return whole && in(p.Src) && in(p.Dst)
}
