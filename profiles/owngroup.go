package profiles

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ownGroupOnly reports whether nobody but its owner can write a file that is writable for its group: the group is the
// owner's own, as useradd makes groups, and no access control list hides behind the group's bits. Root has no own group.
// Users that are not in /etc/passwd are not known to be the only ones in a group.
func ownGroupOnly(path string, info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Uid == 0 {
		return false
	}
	users, err := os.ReadFile("/etc/passwd")
	groups, groupsErr := os.ReadFile("/etc/group")
	return err == nil && groupsErr == nil && alone(string(users), string(groups), stat.Uid, stat.Gid) && !hasACL(path)
}

// alone reports whether the group gid is the first group of the user uid, has the user's name, and has nobody else in it.
// users and groups are the texts of passwd(5) and group(5).
func alone(users, groups string, uid, gid uint32) bool {
	user := ""
	for fields := range fieldsOf(users, 4) {
		if fields[3] != strconv.Itoa(int(gid)) {
			continue
		}
		if fields[2] != strconv.Itoa(int(uid)) {
			return false
		}
		user = fields[0]
	}
	is := false
	for fields := range fieldsOf(groups, 4) {
		if fields[2] != strconv.Itoa(int(gid)) {
			continue
		}
		members := strings.TrimSpace(fields[3])
		if fields[0] != user || members != "" && members != user {
			return false
		}
		is = true
	}
	return is && user != ""
}

// fieldsOf yields the fields of lines with at least n fields between colons.
func fieldsOf(text string, n int) func(yield func([]string) bool) {
	return func(yield func([]string) bool) {
		for line := range strings.Lines(text) {
			if fields := strings.Split(line, ":"); len(fields) >= n && !yield(fields) {
				return
			}
		}
	}
}

// hasACL reports whether a file has an access control list; true where nobody can tell.
func hasACL(path string) bool {
	_, err := unix.Lgetxattr(path, "system.posix_acl_access", nil)
	return !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP)
}
