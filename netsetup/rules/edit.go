package rules

import (
	"cmp"
	"slices"
	"strings"
)

// Edit changes the tables as iptables-restore --noflush changes the kernel's by the same lines of one table, each a
// ":CHAIN POLICY", "-N", "-A", "-I", "-D", "-F" or "-X". Afterwards the tables are as Save would read them, where
// iptables prints rules in the words of the lines. The tool is iptables or ip6tables.
func (t *Tables) Edit(tool, table string, lines []string) {
	edited := t.Table(table)
	if edited == nil {
		edited = &Table{Program: tool, Name: table, byName: map[string]*Chain{}}
		*t = append(*t, edited)
	}
	for _, line := range lines {
		edited.edit(line)
	}
}

// edit does a single line of Edit.
func (t *Table) edit(line string) {
	if chain, ok := strings.CutPrefix(line, ":"); ok {
		name, policy, _ := strings.Cut(chain, " ")
		c := t.chain(name)
		c.Policy, _, _ = strings.Cut(policy, " ")
		c.Rules = nil
		return
	}
	verb, rest, _ := strings.Cut(line, " ")
	name, spec, _ := strings.Cut(rest, " ")
	c := t.chain(name)
	c.Policy = cmp.Or(c.Policy, "ACCEPT") // of a built-in chain that iptables makes with the chain's first rule
	switch verb {
	case "-N":
		c.Policy = "-"
	case "-A":
		c.Rules = append(c.Rules, ParseRule(Normal(spec)))
	case "-I":
		c.Rules = slices.Insert(c.Rules, 0, ParseRule(Normal(spec)))
	case "-D":
		c.remove(Normal(spec))
	case "-F":
		c.Rules = nil
	case "-X":
		delete(t.byName, name)
		t.Chains = slices.DeleteFunc(t.Chains, func(other *Chain) bool { return other == c })
	}
}

// remove removes the first rule with the text.
func (c *Chain) remove(text string) {
	i := slices.IndexFunc(c.Rules, func(r Rule) bool { return r.Text == text })
	if i >= 0 {
		c.Rules = slices.Delete(c.Rules, i, i+1)
	}
}

// Clone returns tables that Edit can change while t stays.
func (t Tables) Clone() Tables {
	all := make(Tables, len(t))
	for i, table := range t {
		all[i] = &Table{Program: table.Program, Name: table.Name, byName: make(map[string]*Chain, len(table.Chains))}
		for _, c := range table.Chains {
			chain := &Chain{Name: c.Name, Policy: c.Policy, Rules: slices.Clone(c.Rules)}
			all[i].Chains = append(all[i].Chains, chain)
			all[i].byName[c.Name] = chain
		}
	}
	return all
}
