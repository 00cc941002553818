package rules

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Tables are the tables of one or both backends of iptables, in the order in which iptables-save printed the tables.
type Tables []*Table

// Table is a table of a backend.
type Table struct {
	Program string // changes the rules: "iptables" for the backend in use, "iptables-legacy" or "iptables-nft" else
	Name    string
	Chains  []*Chain // in the order of iptables-save
	byName  map[string]*Chain
}

// Chain is a chain of a table.
type Chain struct {
	Name   string
	Policy string // ACCEPT or DROP for a built-in chain, "-" for any other
	Rules  []Rule
}

// ErrIncompatible is in the chain of the error where iptables could not show a table, as the table has rules that iptables would
// not write.
var ErrIncompatible = errors.New("iptables cannot read what another program wrote to its tables by nftables; " +
	"\"nft list ruleset\" shows that (of Tailscale it is TS_DEBUG_FIREWALL_MODE=nftables, where iptables would do)")

// unread adds ErrIncompatible to the error of an iptables-save that stops at a rule. Iptables 1.8.9 and newer do so at some of the
// rules that iptables would not write, and call the table incompatible at others.
func unread(err error) error {
	if err != nil && strings.Contains(err.Error(), "Parsing nftables rule failed") {
		return fmt.Errorf("%w: %w", ErrIncompatible, err)
	}
	return err
}

// Parse reads the output of iptables-save, with or without counters. Program is the iptables of the same backend. The
// tables are never nil; a table never used is absent. Where iptables could not show a table, Parse returns the other
// tables and an error that wraps ErrIncompatible.
func Parse(program, text string) (Tables, error) {
	tables := Tables{}
	var err error
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		name, begins := strings.CutPrefix(line, "*")
		switch {
		case begins:
			tables = append(tables, &Table{Program: program, Name: name, byName: map[string]*Chain{}})
		case strings.HasPrefix(line, "# Table `") && strings.Contains(line, "incompatible"):
			err = fmt.Errorf("%w: %s", ErrIncompatible, strings.TrimPrefix(line, "# "))
		case len(tables) > 0:
			tables[len(tables)-1].read(line)
		}
	}
	return tables, err
}

// String is the inverse of Parse, without counters.
func (t Tables) String() string {
	var text strings.Builder
	line := func(words ...string) {
		for _, w := range words {
			text.WriteString(w)
		}
		text.WriteByte('\n')
	}
	for _, table := range t {
		line("*", table.Name)
		for _, c := range table.Chains {
			line(":", c.Name, " ", c.Policy, " [0:0]")
		}
		for _, c := range table.Chains {
			for _, r := range c.Rules {
				line("-A ", c.Name, " ", r.Printed)
			}
		}
		line("COMMIT")
	}
	return text.String()
}

// read takes in a line of a table: ":CHAIN POLICY [..]", "-A CHAIN RULE" or "[PACKETS:BYTES] -A CHAIN RULE".
func (t *Table) read(line string) {
	if chain, ok := strings.CutPrefix(line, ":"); ok {
		if f := strings.Fields(chain); len(f) > 1 {
			t.chain(f[0]).Policy = f[1]
		}
		return
	}
	var packets uint64
	if counters, rest, ok := strings.Cut(line, "] "); ok && strings.HasPrefix(line, "[") {
		count, _, _ := strings.Cut(counters[1:], ":")
		packets, _ = strconv.ParseUint(count, 10, 64) // iptables-save prints numbers there
		line = rest
	}
	rest, ok := strings.CutPrefix(line, "-A ")
	if !ok {
		return
	}
	name, printed, _ := strings.Cut(rest, " ")
	words := normalWords(printed)
	r := ruleOf(joined(words), words)
	r.Printed, r.Packets = printed, packets
	c := t.chain(name)
	c.Rules = append(c.Rules, r)
}

// chain returns the chain of that name, and adds a missing chain.
func (t *Table) chain(name string) *Chain {
	if t.byName[name] == nil {
		t.byName[name] = &Chain{Name: name}
		t.Chains = append(t.Chains, t.byName[name])
	}
	return t.byName[name]
}

// Rules returns the rules of a chain, none where there is no such chain. A nil table has no chains.
func (t *Table) Rules(chain string) []Rule {
	if t == nil || t.byName[chain] == nil {
		return nil
	}
	return t.byName[chain].Rules
}

// Drops reports whether a built-in chain drops what no rule decides on.
func (t *Table) Drops(chain string) bool {
	return t.byName[chain] != nil && t.byName[chain].Policy == "DROP"
}

// Other reports whether the table is of the backend that is not in use.
func (t *Table) Other() bool { return strings.Contains(t.Program, "-") }

// OfOthers returns the table without the rules and chains of boxrun, and without the named chains; nil where others have neither a
// rule nor a policy DROP left.
func (t *Table) OfOthers(without ...string) *Table {
	some, others := false, &Table{Program: t.Program, Name: t.Name, byName: map[string]*Chain{}}
	for _, c := range t.Chains {
		if strings.HasPrefix(c.Name, ChainPrefix) || slices.Contains(without, c.Name) {
			continue
		}
		left := others.chain(c.Name)
		left.Policy, left.Rules = c.Policy, slices.DeleteFunc(slices.Clone(c.Rules), Rule.Ours)
		some = some || len(left.Rules) > 0 || t.Drops(c.Name)
	}
	if !some {
		return nil
	}
	return others
}

// Translates reports whether a rule of the table may translate the destination of a packet.
func (t *Table) Translates() bool {
	return slices.ContainsFunc(t.Chains, func(c *Chain) bool {
		return slices.ContainsFunc(c.Rules, func(r Rule) bool { return r.Target == "DNAT" || r.Target == "REDIRECT" })
	})
}

// Sorted returns the chains by name.
func (t *Table) Sorted() []*Chain {
	return slices.SortedFunc(slices.Values(t.Chains), func(a, b *Chain) int { return strings.Compare(a.Name, b.Name) })
}

// Command returns a rule of a chain as a person would type it to add the rule.
func (t *Table) Command(chain string, r Rule) string {
	return strings.TrimSpace(fmt.Sprintf("%s -t %s -A %s %s", t.Program, t.Name, chain, r.Text))
}

// Table returns the first table of that name, nil where there is none.
func (t Tables) Table(name string) *Table {
	i := slices.IndexFunc(t, func(table *Table) bool { return table.Name == name })
	if i < 0 {
		return nil
	}
	return t[i]
}

// Rules returns the rules of a chain, none where there is no such chain.
func (t Tables) Rules(table, chain string) []Rule { return t.Table(table).Rules(chain) }

// Has reports whether a chain exists.
func (t Tables) Has(table, chain string) bool {
	found := t.Table(table)
	return found != nil && found.byName[chain] != nil
}
