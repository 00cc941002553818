package enter

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"

	moby "github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"boxrun/launcher/files"
)

// This file looks up users, commands' environments and languages in the box, for the process inside (inside.go).

// user is the user a command runs as.
type user struct {
	Name   string // the number if /etc/passwd has no name for the user
	UID    int
	GID    int
	Groups []int // supplementary
	Home   string
	Shell  string // "" if /etc/passwd names none
}

// mostUsers limits the files of users: root in the box writes them.
const mostUsers = 8 << 20

// lookUser finds spec, USER[:GROUP] by name or number, in the box's /etc/passwd and /etc/group. Numbers need not be in
// the files. An image without these files still has root.
func lookUser(spec string) (user, error) {
	passwd, passwdErr := files.ReadSmall("/etc/passwd", mostUsers)
	group, groupErr := files.ReadSmall("/etc/group", mostUsers)
	if err := cmp.Or(passwdErr, groupErr); err != nil {
		return user{}, err
	}
	return parseUser(spec, passwd, group)
}

// parseUser finds spec in the texts of /etc/passwd and /etc/group; "" means root. A name absent from the texts is an
// error. If several names share a number, a name in spec decides whose shell counts.
func parseUser(spec, passwd, group string) (user, error) {
	spec = cmp.Or(spec, "0")
	root := &moby.ExecUser{Home: "/"}
	found, err := moby.GetExecUser(spec, root, strings.NewReader(passwd), strings.NewReader(group))
	switch {
	case errors.Is(err, moby.ErrNoPasswdEntries):
		return user{}, fmt.Errorf("user %q: not in the box's /etc/passwd", spec)
	case errors.Is(err, moby.ErrNoGroupEntries):
		return user{}, fmt.Errorf("user %q: its group is not in the box's /etc/group", spec)
	case err != nil:
		return user{}, fmt.Errorf("user %q: %w", spec, err)
	}
	u := user{Name: strconv.Itoa(found.Uid), UID: found.Uid, GID: found.Gid, Groups: found.Sgids, Home: found.Home}
	name, _, _ := strings.Cut(spec, ":")
	entries, err := moby.ParsePasswdFilter(strings.NewReader(passwd), func(e moby.User) bool {
		return e.Name == name || e.Uid == found.Uid
	})
	if err != nil {
		return user{}, err
	}
	if i := slices.IndexFunc(entries, func(e moby.User) bool { return e.Name == name }); i > 0 {
		entries = entries[i:] // several names may share a number
	}
	if len(entries) > 0 {
		u.Name, u.Shell = entries[0].Name, entries[0].Shell
	}
	return u, nil
}

// become gives the process the user's identity.
func (u user) become() error {
	if err := syscall.Setgroups(u.Groups); err != nil {
		return fmt.Errorf("setting the groups of user %q: %w", u.Name, err)
	}
	if err := syscall.Setgid(u.GID); err != nil {
		return fmt.Errorf("setting the group of user %q: %w", u.Name, err)
	}
	if err := syscall.Setuid(u.UID); err != nil {
		return fmt.Errorf("becoming user %q: %w", u.Name, err)
	}
	return nil
}

// loginShell returns the user's shell. If there is none in the image, or the user may not execute the shell, loginShell
// returns /bin/sh.
func (u user) loginShell() string {
	if u.Shell != "" && unix.Access(u.Shell, unix.X_OK) == nil {
		return u.Shell
	}
	return "/bin/sh"
}

// boxPath is the PATH of commands in a box.
const boxPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environ returns the variables of a login on a machine, those of the box's services, then the variables asked for. Of
// the caller's variables only TERM is among them.
func (e entry) environ(u user, lang string) []string {
	env := []string{"PATH=" + boxPath, "HOME=" + u.Home, "USER=" + u.Name, "LOGNAME=" + u.Name,
		"SHELL=" + cmp.Or(u.Shell, "/bin/sh"), "LANG=" + lang}
	if e.Term != "" {
		env = append(env, "TERM="+e.Term)
	}
	ofLogin := func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains([]string{"HOME", "USER", "LOGNAME", "SHELL"}, name)
	}
	for _, v := range append(slices.DeleteFunc(slices.Clone(e.OfBox), ofLogin), e.Env...) {
		name, _, _ := strings.Cut(v, "=")
		env = slices.DeleteFunc(env, func(have string) bool { return strings.HasPrefix(have, name+"=") })
		env = append(env, v)
	}
	return env
}

// boxLang returns the language set in the box, as a login there would have. The host's language may not be installed in
// the box. The setting is in /etc/locale.conf or /etc/default/locale; without a setting the language is C.UTF-8.
func boxLang() string {
	for _, path := range []string{"/etc/locale.conf", "/etc/default/locale"} {
		text, _ := files.ReadSmall(path, 1<<16) // a login goes on without a file it cannot read
		if lang := parseLang(text); lang != "" {
			return lang
		}
	}
	return "C.UTF-8"
}

// parseLang returns the value of LANG from shell assignments; "" if unset.
func parseLang(text string) string {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "LANG="); ok {
			return strings.Trim(value, `"'`)
		}
	}
	return ""
}
