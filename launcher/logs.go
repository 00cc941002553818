package launcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Logs selects the log lines wanted from each box.
type Logs struct {
	Follow  bool   // go on as new lines come
	Lines   *int   // how many of the existing lines, from the end; nil: all, or with Follow the last ten
	Unit    string // lines of this unit only
	Since   string // in journalctl's syntax
	Colours bool   // keep colours; for a single box only

	timed bool // each line begins with its time, for parseTime
}

// argv returns the journalctl command that prints the lines, to be run in the box.
func (o Logs) argv() []string {
	argv := []string{"journalctl", "--no-pager"}
	if o.timed || o.Lines != nil && *o.Lines == 0 { // without --quiet, journalctl prints "No entries"
		argv = append(argv, "--quiet")
	}
	if o.timed {
		argv = append(argv, "--output=short-unix")
	}
	if o.Follow {
		argv = append(argv, "--follow")
	}
	if o.Lines != nil {
		argv = append(argv, "--lines="+strconv.Itoa(*o.Lines))
	}
	if o.Unit != "" {
		argv = append(argv, "--unit="+o.Unit)
	}
	if o.Since != "" {
		argv = append(argv, "--since="+o.Since)
	}
	return argv
}

// lastLines returns the number of existing lines to begin with; -1 means all.
func (o Logs) lastLines() int {
	switch {
	case o.Lines != nil:
		return *o.Lines
	case o.Follow:
		return 10 // as journalctl and tail do
	default:
		return -1
	}
}

// logFile is a file Apptainer keeps of a box: the output of its init, or the reason for a failed start.
type logFile struct {
	Path string
	From int64 // offset in bytes of this start's lines; Apptainer only appends
}

// showLogs writes the wanted lines of a box to out: from the box's journal, or from files if the box has no journal or
// does not run (b.PID is 0). The code is journalctl's; with an error the code is 125. Following stops when the box or
// ctx ends; neither is an error.
func showLogs(ctx context.Context, b boxRef, o Logs, files []logFile, out, errOut io.Writer) (code int, err error) {
	if b.PID != 0 && hasJournal(b.PID) {
		e := Exec{Argv: o.argv(), Stdout: out, Stderr: errOut}
		if o.Colours {
			e.Env = []string{"SYSTEMD_COLORS=1"}
		}
		return runIn(ctx, b, e)
	}
	if err := o.refuseFiles(b.Name); err != nil {
		return CodeBoxrun, err
	}
	files = slices.Clone(files)
	for i := range files {
		if err := files[i].tail(out, o.lastLines()); err != nil {
			return CodeBoxrun, fmt.Errorf("reading the log of box %q: %w", b.Name, err)
		}
	}
	if !o.Follow || b.PID == 0 {
		return 0, nil
	}
	if err := followFiles(ctx, b.PID, files, out); err != nil {
		return CodeBoxrun, fmt.Errorf("following the log of box %q: %w", b.Name, err)
	}
	return 0, nil
}

// refuseFiles refuses a selection only a journal can make: by unit or by time.
func (o Logs) refuseFiles(box string) error {
	if o.Unit == "" && o.Since == "" {
		return nil
	}
	return fmt.Errorf("box %q keeps no journal, and its log has neither units nor times", box)
}

// hasJournal reports whether systemd's journal runs in the box.
func hasJournal(pid int) bool {
	return exists(fmt.Sprintf("/proc/%d/root/run/systemd/journal/socket", pid))
}

// text returns the lines of this start in the file; nil if there is no file.
func (f logFile) text() ([]byte, error) {
	file, err := os.Open(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.NewSectionReader(file, f.From, 1<<40))
}

// tail writes the last lines of this start, all for -1, and moves From to the end of the file. The next tail thus
// writes what Apptainer has appended since.
func (f *logFile) tail(out io.Writer, lines int) error {
	text, err := f.text()
	if err != nil {
		return err
	}
	f.From += int64(len(text))
	_, err = out.Write(lastLines(text, lines))
	return err
}

// lastLines returns the last lines of text; all of text for a negative number.
func lastLines(text []byte, lines int) []byte {
	if lines < 0 {
		return text
	}
	all := bytes.SplitAfter(text, []byte("\n"))
	if len(all[len(all)-1]) == 0 {
		all = all[:len(all)-1]
	}
	return bytes.Join(all[max(0, len(all)-lines):], nil)
}

// followEvery is the time between two looks for new lines in files.
const followEvery = 250 * time.Millisecond

// followFiles writes what is appended to files after their From, until ctx or the process ends.
func followFiles(ctx context.Context, pid int, logs []logFile, out io.Writer) error {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		alive := exists(fmt.Sprintf("/proc/%d", pid)) // before reading: what it wrote last is not to be missed
		for i := range logs {
			if err := logs[i].tail(out, -1); err != nil {
				return err
			}
		}
		if !alive {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// startCause returns the cause of a failed start in a single line, from Apptainer's .err log or its messages; "" if
// there is none. Apptainer surrounds the cause with lines that only say something failed. FATAL goes before ERROR. If
// Apptainer has no message of its own, the last line is the init's, and is the cause.
func startCause(text string) string {
	var last, failed, fatal string
	for line := range strings.Lines(text) {
		level, message := logLine(line)
		switch {
		case message == "" || isNoise(message):
		case level == "FATAL":
			fatal = message
		case level == "ERROR":
			failed = message
		case level == "":
			last = message
		}
	}
	for _, message := range []string{fatal, failed, last} {
		if message != "" {
			return plainCause(message)
		}
	}
	return ""
}

// logLine splits a line of Apptainer's log into level and message, without colours. level is "" for a line from another
// program.
func logLine(line string) (level, message string) {
	line = strings.TrimSpace(colour.ReplaceAllString(line, ""))
	for _, level := range []string{"FATAL", "ERROR", "WARNING", "INFO"} {
		if rest, ok := strings.CutPrefix(line, level); ok {
			if _, message, ok := strings.Cut(rest, ":"); ok {
				return level, strings.TrimSpace(message)
			}
		}
	}
	return "", line
}

// isNoise reports whether a message is only a consequence of another message.
func isNoise(message string) bool {
	for _, noise := range []string{"container cleanup failed: no instance found", "could not delete networks: ",
		"while executing starter: "} {
		if strings.HasPrefix(message, noise) {
			return true
		}
	}
	return false
}

// plainCause rewrites a message of Apptainer in terms of boxrun. A message missing from causes only loses the prefixes
// of the layers it passed.
func plainCause(message string) string {
	for _, c := range causes() {
		if found := regexp.MustCompile(c[0]).FindStringSubmatchIndex(message); found != nil {
			return string(regexp.MustCompile(c[0]).ExpandString(nil, c[1], message, found))
		}
	}
	message = strings.TrimPrefix(message, "container creation failed: ")
	return strings.TrimPrefix(message, "mount hook function failure: ")
}

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
		{`while applying cgroups config: (.*)`, `the resource limits cannot be set: $1`},
	}
}
