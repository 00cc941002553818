package enter

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"boxrun/launcher/files"
)

// line is the connection between boxrun outside the box and boxrun inside. The process inside gets a description of the
// command, and sends packets back: the first when the process runs, then begun when nothing is left to do but the
// command, or else why the command could not be executed.
type line struct {
	far     []*os.File // files 3 and up of the process inside, see inside.go
	near    int        // socket of boxrun outside
	process int        // PID of the command as the host counts; 0: no packet yet
	begun   bool       // the packet begun has come
	text    []byte     // the last packet: why the command could not be executed
}

// begun is the packet for a command about to be executed, or a copy about to be done.
const begun = "begun"

// tellBegun sends the packet begun from inside. Without boxrun outside nobody has to be told.
func tellBegun() { _ = unix.Send(lineFD, []byte(begun), 0) }

// newLine opens a line. Its files include a copy of boxrun's executable, to be run inside the box.
func newLine(e entry) (*line, error) {
	exe, err := copyOfSelf()
	if err != nil {
		return nil, fmt.Errorf("copying boxrun's own executable: %w", err)
	}
	spec, err := inMemory(e)
	if err != nil {
		exe.Close()
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		exe.Close()
		spec.Close()
		return nil, os.NewSyscallError("socketpair", err)
	}
	l := &line{near: pair[0], far: []*os.File{exe, spec, os.NewFile(uintptr(pair[1]), "line")}}
	// With SO_PASSCRED the kernel adds the sender's PID, as the host counts, to each packet.
	if err := unix.SetsockoptInt(l.near, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		l.close()
		return nil, os.NewSyscallError("setsockopt SO_PASSCRED", err)
	}
	return l, nil
}

// copyOfSelf returns a sealed copy of boxrun's executable. Of a process in the box, root in the box can open the
// executable (/proc/PID/exe), and could write the host's file.
func copyOfSelf() (*os.File, error) {
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	defer exe.Close()
	return files.Sealed("boxrun", exe)
}

// inMemory returns a sealed file without a name (memfd) holding e. The values of e, secrets among them, thus appear in
// no process list.
func inMemory(e entry) (*os.File, error) {
	text, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	return files.Sealed("boxrun-entry", bytes.NewReader(text))
}

// started closes the far end in this process: from then on the process inside holds the only copy, and its exit closes
// the line.
func (l *line) started() {
	for _, f := range l.far {
		f.Close()
	}
}

func (l *line) close() {
	l.started()
	unix.Close(l.near)
}

// pid returns the PID of the process in the box, as the host counts; 0 if the process has not reported yet. The process
// leads its own process group.
func (l *line) pid() int {
	l.hearAll()
	return l.process
}

// hasBegun reports whether the command was executed, as far as boxrun inside can tell.
func (l *line) hasBegun() bool {
	l.hearAll()
	return l.begun
}

// hearAll receives the packets that have come.
func (l *line) hearAll() {
	for l.hear() {
	}
}

// end returns why the command could not be executed; a failure without text if the command was executed.
func (l *line) end() (failure, error) {
	l.hearAll()
	var f failure
	if len(l.text) == 0 {
		return f, nil
	}
	err := json.Unmarshal(l.text, &f)
	return f, err
}

// hear receives a packet if there is any, without waiting, and reports whether there was one.
func (l *line) hear() bool {
	buf, oob := make([]byte, 64*1024), make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	n, oobn, _, _, err := unix.Recvmsg(l.near, buf, oob, unix.MSG_DONTWAIT)
	if err != nil || n == 0 {
		return false
	}
	switch {
	case l.process == 0:
		l.process = senderOf(oob[:oobn])
	case string(buf[:n]) == begun:
		l.begun = true
	default:
		l.text = buf[:n]
	}
	return true
}

// senderOf returns the PID from the credentials in a packet's control message; 0 if there are none.
func senderOf(oob []byte) int {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) == 0 {
		return 0
	}
	who, err := unix.ParseUnixCredentials(&messages[0])
	if err != nil {
		return 0
	}
	return int(who.Pid)
}
