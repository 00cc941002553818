package profiles

import "errors"

// decode reads [hooks].
func (h *Hooks) decode(s *section) {
	take(s, "post_up", &h.PostUp, list("a list of commands, each a list of strings", argv))
}

// argv reads a command and its arguments. boxrun starts no shell: a command that needs a shell names the shell.
func argv(s *section, name string, raw any) ([]string, bool) {
	words, ok := typed[[]any](`a command as a list of strings, such as ["systemctl", "start", "web"]`)(s, name, raw)
	if ok && len(words) == 0 {
		s.refuse(name, "must not be empty")
	}
	argv := make([]string, len(words))
	for i, word := range words {
		read := expanded
		if i == 0 {
			read = text(command)
		}
		argv[i], _ = read(s, at(name, i), word)
	}
	return argv, ok
}

// command checks the program to execute: a path, or a name to look up in the box.
func command(s string) (string, error) {
	if s == "" {
		return "", errors.New("must name a command")
	}
	return oneLine(s)
}
