package groups

import (
	"strings"
	"testing"
)

// A group of one's own, as useradd makes groups and a umask of 0002 relies on.
func TestAlone(t *testing.T) {
	const users = "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\nbob:x:1001:100::/home/bob:/bin/sh\neve:x:1002:1003::/:/bin/sh\n"
	const groups = "root:x:0:\nusers:x:100:\nalice:x:1000:alice\nstaff:x:1003:\n"
	for what, c := range map[string]struct {
		users, groups string
		uid, gid      uint32
		want          bool
	}{
		"one's own":                 {users, groups, 1000, 1000, true},
		"of many":                   {users, groups, 1001, 100, false},
		"of another name":           {users, groups, 1002, 1003, false},
		"somebody else's":           {users, groups, 1001, 1000, false},
		"with a member":             {users, strings.ReplaceAll(groups, "1000:alice", "1000:alice,bob"), 1000, 1000, false},
		"first group of two":        {users + "mallory:x:1009:1000::/:\n", groups, 1000, 1000, false},
		"in no file, as of LDAP":    {users, groups, 5000, 5000, false},
		"without an entry of group": {users, "root:x:0:\n", 1000, 1000, false},
	} {
		if got := alone(c.users, c.groups, c.uid, c.gid); got != c.want {
			t.Errorf("%s: got %v", what, got)
		}
	}
}
