package netsetup

import (
	"errors"
	"strings"

	"boxrun/netsetup/rules"
)

// keptRules are the rules of iptables as read once, and as changed by boxrun since. The kernel's number of the rules
// tells whether others have changed rules meanwhile.
type keptRules struct {
	tables     rules.Tables // nil: to be read
	doubted    bool         // others had time to change something
	numbered   bool         // the backend in use has numbers
	generation uint32       // of tables
}

// hold reports whether the kept rules are still the kernel's.
func (r *keptRules) hold() bool {
	if r.tables == nil || !r.numbered {
		return false
	}
	now, err := rules.Generation()
	r.doubted = err != nil || now != r.generation
	return !r.doubted
}

// read reads the rules anew. Of two changes at once the number before the reading is the safe one.
func (r *keptRules) read() (rules.Tables, error) {
	*r = keptRules{}
	var err error
	r.generation, err = rules.Generation()
	r.numbered = err == nil
	for range saveTries {
		var tables rules.Tables
		if tables, err = rules.Save("iptables"); !errors.Is(err, rules.ErrIncompatible) {
			r.tables = tables
			break
		}
	}
	return r.tables, err
}

// saveTries bounds how often incompatible tables are read again: iptables also calls a table incompatible while
// another process writes its first rules, as iptables looks at a table in several steps.
const saveTries = 5

// write follows what iptables-restore made of lines. The rules are kept where the number is what the transactions alone
// have made of it, a transaction for each table.
func (r *keptRules) write(tool string, lines []string) {
	if r.tables == nil || !r.numbered || tool != "iptables" {
		r.tables = nil
		return
	}
	now, err := rules.Generation()
	byTable := tablesOf(lines)
	if r.generation += uint32(len(byTable)); err != nil || now != r.generation {
		r.tables = nil
		return
	}
	for _, t := range byTable {
		r.tables.Edit(t[0], t[1:])
	}
}

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
