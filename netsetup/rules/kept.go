package rules

import (
	"errors"
	"strings"
)

// Kept are the rules of a family of iptables as read once, and as changed by boxrun since. The kernel's number of the rules
// tells whether others have changed rules meanwhile.
type Kept struct {
	Memory Memory // of earlier processes

	tool       string // iptables or ip6tables
	tables     Tables // nil: to be read
	doubted    bool   // others had time to change something
	numbered   bool   // the backend in use has numbers
	generation uint32 // of tables
}

// Has reports whether there are kept rules that nobody doubts.
func (k *Kept) Has() bool { return k.tables != nil && !k.doubted }

// Doubt makes the next Hold ask the kernel whether others have changed rules.
func (k *Kept) Doubt() { k.doubted = true }

// Drop forgets the rules.
func (k *Kept) Drop() { k.tables = nil }

// Tables returns the kept rules; nil for none.
func (k *Kept) Tables() Tables { return k.tables }

// Hold reports whether the kept rules are still the kernel's, and then no longer doubts them.
func (k *Kept) Hold() bool {
	if k.tables == nil || !k.numbered {
		return false
	}
	now, err := Generation(k.tool)
	k.doubted = err != nil || now != k.generation
	return !k.doubted
}

// Read reads the rules anew, with the save of a program: "iptables" or "ip6tables". No program is started where the Memory
// has the rules, nor where the kernel has none. Of two changes at once the number before the reading is the safe one, and a
// text goes to the Memory only with the same number before and after.
func (k *Kept) Read(program string) (err error) {
	*k = Kept{Memory: k.Memory, tool: program}
	k.generation, err = Generation(program)
	k.numbered = err == nil
	if k.numbered {
		if said := k.Memory.recall(program, k.generation); said != "" {
			k.tables, err = Parse(program, said)
			return err
		}
		if said, bare := unruled(program); bare {
			k.tables, err = Parse(program, said)
			return err
		}
	}
	said, err := k.save(program)
	if now, late := Generation(program); k.numbered && err == nil && late == nil && now == k.generation {
		k.Memory.keep(program, now, said)
	}
	return err
}

// save reads the tables in use, and again where iptables calls a table incompatible: iptables does so while another
// process writes its first rules, as iptables looks at a table in several steps.
func (k *Kept) save(program string) (said string, err error) {
	const tries = 5
	for range tries {
		k.tables = nil
		if said, err = Run("", program+"-save"); err == nil {
			k.tables, err = Parse(program, said)
		}
		err = unread(err)
		if !errors.Is(err, ErrIncompatible) {
			return said, err
		}
	}
	k.tables = nil
	return "", err
}

// Follow follows what own lines made of the family's rules, where so many transactions have changed rules of any family:
// the rules are kept if these transactions alone have made the number what it is. Then they go to the Memory as well, with
// what nft said, and the next process starts no program to know what this process wrote.
func (k *Kept) Follow(own []string, transactions int) {
	if k.tables == nil || !k.numbered {
		k.tables = nil
		return
	}
	before := k.generation
	now, err := Generation(k.tool)
	if k.generation += uint32(transactions); err != nil || now != k.generation {
		k.tables = nil
		return
	}
	k.Memory.follow(before, now)
	for _, t := range tablesOf(own) {
		k.tables.Edit(k.tool, t[0], t[1:])
	}
	k.Memory.keep(k.tool, now, k.tables.String())
}

// Transactions returns how many transactions the restore of a program makes of lines: one of each table.
func Transactions(lines []string) int { return len(tablesOf(lines)) }

// tablesOf splits the input of iptables-restore: for each table its name, then its lines.
func tablesOf(lines []string) (byTable [][]string) {
	for _, line := range lines {
		name, begins := strings.CutPrefix(line, "*")
		switch last := len(byTable) - 1; {
		case begins:
			byTable = append(byTable, []string{name})
		case line != "COMMIT":
			byTable[last] = append(byTable[last], line)
		}
	}
	return byTable
}
