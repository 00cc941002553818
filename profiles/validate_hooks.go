package profiles

import "errors"

// decode reads [hooks].
func (h *Hooks) decode(s *section) {
	commands, ok := s.list("post_up", "a list of commands, each a list of strings")
	if !ok {
		return
	}
	h.PostUp = make([][]string, len(commands))
	for i, command := range commands {
		h.PostUp[i] = argv(s, at("post_up", i), command)
	}
}

// argv decodes a command and its arguments. boxrun starts no shell: a command that needs a shell names the shell.
func argv(s *section, name string, raw any) []string {
	words, ok := raw.([]any)
	if !ok {
		s.wrongType(name, `a command as a list of strings, such as ["systemctl", "start", "web"]`, raw)
		return nil
	}
	if len(words) == 0 {
		s.refuse(name, "must not be empty")
		return nil
	}
	argv := make([]string, len(words))
	for i, word := range words {
		parse := prose
		if i == 0 {
			parse = command
		}
		argv[i], _ = element(s, at(name, i), word, parse)
	}
	return argv
}

// command checks the program to execute: a path, or a name to look up in the box.
func command(s string) (string, error) {
	if s == "" {
		return "", errors.New("must name a command")
	}
	return oneLine(s)
}
