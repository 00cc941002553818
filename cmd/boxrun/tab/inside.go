package tab

import (
	"path"
	"slices"
	"strings"
	"time"

	"boxrun/launcher/enter"
	"boxrun/launcher/say"
)

// usersIn returns the users in the passwd of a box; nothing where the caller may not look.
func (o Of) usersIn(name string) []string {
	b, err := enter.Find(o(), name)
	if err != nil {
		return nil
	}
	return soon(func() []string {
		text, _ := enter.ReadInBox(b.Init.PID, "etc/passwd")
		var users []string
		for line := range strings.Lines(text) {
			if user, _, ok := strings.Cut(line, ":"); ok && user != "" && say.Printable(user) == user {
				users = append(users, user)
			}
		}
		return users
	})
}

// pathsIn returns the paths in a box with word as their beginning, each after before; directories end in a slash.
func (o Of) pathsIn(name, word, before string) []string {
	b, err := enter.Find(o(), name)
	if err != nil {
		return nil
	}
	dir, begin := path.Split(word)
	return soon(func() []string {
		elems, _ := enter.ListInBox(b.Init.PID, dir)
		elems = slices.DeleteFunc(elems, func(elem string) bool {
			return !strings.HasPrefix(elem, begin) || strings.HasPrefix(elem, ".") && begin == "" || say.Printable(elem) != elem
		})
		slices.Sort(elems)
		for i := range elems {
			elems[i] = before + dir + elems[i]
		}
		return elems
	})
}

// soon returns what look returns, or nothing where look takes longer than patience: a file system of a box may never
// answer.
func soon(look func() []string) []string {
	done := make(chan []string, 1)
	go func() { done <- look() }()
	select {
	case found := <-done:
		return found
	case <-time.After(patience):
		return nil
	}
}
