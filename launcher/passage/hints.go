package passage

import (
	"fmt"
	"slices"
	"strings"

	"boxrun/netsetup/rules"
)

// RepairCommand repairs everything of boxrun's on the host.
const RepairCommand = "boxrun doctor --fix"

// RemovalHint returns advice for the administrator on a rule that takes a port. For a rule in one of boxrun's own
// tables the advice is RepairCommand: boxrun can put its rule first there.
func RemovalHint(rule string) string {
	words := strings.Fields(rule)
	switch {
	case strings.HasPrefix(rule, "nft ") && ofKubernetes(rule):
		return ShareHint(rule)
	case words[0] == "nft" && len(words) == 7:
		return fmt.Sprintf("publish another host port, or remove that rule: nft delete %s", strings.Join(words[1:], " "))
	case words[0] != "iptables" && words[0] != "ip6tables":
		return "publish another host port, or remove that rule: " + DeleteCommand(rule)
	}
	return RepairCommand
}

// ShareHint returns advice for the administrator on a rule for a published port, where boxrun's rule is asked first, or where the
// maker of the rule would make the rule again.
func ShareHint(rule string) string {
	if ofKubernetes(rule) {
		return "publish another host port, or give the Service another nodePort"
	}
	return "publish another host port, or have whoever made that rule take another one"
}

// ofKubernetes reports whether a rule is of kube-proxy. Kube-proxy makes deleted rules again.
func ofKubernetes(rule string) bool {
	return strings.Contains(rule, " -A KUBE-") || strings.Contains(rule, " kube-proxy ")
}

// DeleteCommand returns the command that deletes a rule; rule is the command that adds the rule. For a policy that is the command
// with which the chain accepts.
func DeleteCommand(rule string) string {
	if strings.Contains(rule, " -P ") {
		return strings.TrimSuffix(rule, "DROP") + "ACCEPT"
	}
	return strings.Replace(rule, " -A ", " -D ", 1)
}

// ofFirewalld reports whether a rule is in firewalld's table of nftables.
func ofFirewalld(rule string) bool { return strings.Contains(rule, " inet firewalld ") }

// PassHint returns advice for the administrator on how to let a bridge's traffic pass a rule.
func PassHint(rule, bridge string) string {
	words := strings.Fields(rule)
	switch {
	case ofFirewalld(rule):
		return fmt.Sprintf("put %s into a zone that forwards: \"boxrun host setup\", then \"firewall-cmd --permanent --zone=boxrun "+
			"--change-interface=%[1]s\" and \"firewall-cmd --reload\"", bridge)
	case strings.HasPrefix(rule, "nft ") && len(words) > 4 && (words[2] == "bridge" || words[2] == "netdev" || words[2] == "arp"):
		return "let what comes from boxes and goes to them pass, there and in the file it comes from: nft -a list chain " + strings.Join(words[2:5], " ")
	case words[0] == "nft" && len(words) > 4:
		chain := strings.Join(words[2:5], " ")
		return fmt.Sprintf("add to that chain, now and in the file it comes from: nft 'insert rule %s iifname %q accept; "+
			"insert rule %[1]s oifname %[2]q ct state established,related accept; insert rule %[1]s oifname %[2]q ct status dnat accept'",
			chain, bridge)
	}
	return "let packets of boxes pass before that rule, or remove that rule: " + DeleteCommand(rule)
}

// OwnHint is PassHint for a rule that drops packets between the host itself and a box.
func OwnHint(rule, bridge string) string {
	words := strings.Fields(rule)
	const let = "let what the host and its boxes send each other pass, now and "
	switch {
	case strings.Contains(rule, " -t filter "):
		return fmt.Sprintf(let+"where that rule comes from: %s -I INPUT -i %s -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; %[1]s -I OUTPUT -o %[2]s -j ACCEPT",
			words[0], bridge)
	case words[0] == "nft" && len(words) > 4 && slices.Contains([]string{"ip", "ip6", "inet"}, words[2]):
		return fmt.Sprintf(let+"in the file it comes from: nft 'insert rule %s iifname %q ct state established,related accept; insert rule %[1]s oifname %[2]q accept'",
			strings.Join(words[2:5], " "), bridge)
	}
	return PassHint(rule, bridge)
}

// LetPass returns the command with which packets of boxes on a bridge get past a rule that drops them. For rules of
// boxrun and rules of iptables' filter table boxrun repairs the order: once boxrun's rules are first in filter, the
// same backend asks no other rule before them.
func LetPass(rule, bridge string) string {
	switch {
	case rules.Ours(rule), strings.HasPrefix(rule, "iptables -t filter "), strings.HasPrefix(rule, "ip6tables -t filter "):
		return RepairCommand
	case strings.HasPrefix(rule, "iptables"), strings.HasPrefix(rule, "ip6tables"):
		return DeleteCommand(rule)
	}
	return PassHint(rule, bridge)
}

// UntrackedHint returns advice for the administrator on a rule of Untracked.
func UntrackedHint(rule string) string {
	if strings.HasPrefix(rule, "nft ") {
		return RemovalHint(rule)
	}
	return "publish another host port, or remove that rule: " + DeleteCommand(rule)
}
