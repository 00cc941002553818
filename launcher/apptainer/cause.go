package apptainer

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"time"

	"boxrun/launcher/confine"
	"boxrun/launcher/say"
)

// Cause returns the cause of a failed start in a single line, from Apptainer's .err log or its messages; "" if
// there is none. Apptainer surrounds the cause with lines that only say something failed. FATAL goes before ERROR, and
// the last word of boxrun as the first process of the box goes after both.
func Cause(text string) string {
	var confined, failed, fatal string
	for line := range strings.Lines(text) {
		level, message := logLine(line)
		switch {
		case message == "" || isNoise(message):
		case level == "FATAL":
			fatal = message
		case level == "ERROR":
			failed = message
		case strings.HasPrefix(message, confine.Words):
			confined = message
		}
	}
	return plainCause(cmp.Or(fatal, failed, confined))
}

// lastWords returns the last line in a log of a program other than Apptainer: of the box's init, if any.
func lastWords(text string) (last string) {
	for line := range strings.Lines(text) {
		if level, message := logLine(line); level == "" && message != "" && !isNoise(message) {
			last = message
		}
	}
	return last
}

// logLine splits a line of Apptainer's log into level and message, without colours. level is "" for a line from another
// program.
func logLine(line string) (level, message string) {
	line = strings.TrimSpace(say.Colour.ReplaceAllString(line, ""))
	for _, level := range []string{"FATAL", "ERROR", "WARNING", "INFO"} {
		if rest, ok := strings.CutPrefix(line, level); ok {
			if _, message, ok := strings.Cut(rest, ":"); ok {
				return level, strings.TrimSpace(message)
			}
		}
	}
	return "", line
}

// isNoise reports whether a message is only a consequence of another message. The service of a box runs "boxrun down"
// after a failed start, with the stderr of Apptainer.
func isNoise(message string) bool {
	noise := []string{"container cleanup failed: no instance found", "could not delete networks: ",
		"while executing starter: ", "boxrun: "}
	return slices.ContainsFunc(noise, func(prefix string) bool { return strings.HasPrefix(message, prefix) })
}

// plainCause rewrites a message of Apptainer in terms of boxrun. A message missing from causes only loses the prefixes
// of the layers it passed.
func plainCause(message string) string {
	for _, c := range causes() {
		pattern := regexp.MustCompile(c[0])
		if found := pattern.FindStringSubmatchIndex(message); found != nil {
			return string(pattern.ExpandString(nil, c[1], message, found))
		}
	}
	message = strings.TrimPrefix(message, "container creation failed: ")
	return strings.TrimPrefix(message, "mount hook function failure: ")
}

// hostAway is the cause of a start during which Apptainer found no systemd to make the cgroup of the box.
const hostAway = "the host's systemd executed itself anew meanwhile"

// Causes of a start that took too long for Apptainer. The time of the plugins begins when Apptainer connects the box, and a
// plugin may be killed for another reason before.
const (
	pluginKilled = "a plugin that connects boxes was killed; Apptainer gives them 5 s together"
	scopeLate    = "the host's systemd did not make the box's scope within the 30 s that Apptainer waits"
	pluginTime   = 5 * time.Second
)

// causes maps messages of Apptainer 1.3 to 1.5 and its CNI plugins to boxrun's words: a regular expression, then the
// text for it.
func causes() [][2]string {
	return [][2]string{
		// ENOENT from execve: either init or its interpreter is missing.
		{`exec /sbin/init failed: a shared library`, `the image has no /sbin/init, or not the interpreter it needs`},
		{`exec /sbin/init failed: (.*)`, `the image's /sbin/init cannot be executed: $1`},
		{`requested IP address (\S+) is not available`, `the address $1 is taken by another box`},
		{`failed to allocate all requested IPs: (\S+)`, `the address $1 is not in the bridge's subnet`},
		{`(\S+) has been allocated to \S+, duplicate allocation`, `the address $1 is leased to a box that is gone`},
		{`no IP addresses available in`, `no address is left in the bridge's subnet`},
		{`mount source (\S+) doesn't exist`, `the bind's source $1 does not exist`},
		{`Requesting capability set`, `the kernel lacks a capability that Apptainer asks for (see "root default capabilities" in apptainer.conf)`},
		{`plugin type="\S+" failed \(add\): .*(?:signal: killed|context deadline exceeded)`, pluginKilled},
		{`while applying cgroups config: .*Timeout waiting for systemd to create`, scopeLate},
		{`while applying cgroups config: .*unable to start unit.*(?:[Dd]isconnected|[Aa]ctivate|exited with status|refused|reset by peer|closed)`, hostAway},
		{`while applying cgroups config: (.*)`, `the rules of the box's cgroup cannot be set: $1`},
	}
}
