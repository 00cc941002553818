package confine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"boxrun/launcher/process"
	"boxrun/netsetup/offload"
	"boxrun/netsetup/six"
	"boxrun/profiles"
)

// boxrun itself is the first process of a confined box. Apptainer starts boxrun, bound over the image's /sbin/init,
// with all capabilities and before any program of the image runs. Init then makes the mounts and namespaces for lack of
// flags of Apptainer, drops capabilities, uncovers the image's own init, and becomes this init. A failed step ends the
// process, and with the process the start: no box runs half confined.

// Words begin every error of boxrun as the first process of a box.
const Words = "confining the box: "

// initPath is the path of the image's init.
const initPath = "/sbin/init"

// variable is the environment variable for Init, about the box. The image's init does not get the variable.
const variable = "BOXRUN_CONFINE"

// ofGo has the Go programs of Apptainer, its plugins, and boxrun as the first process do without what a short program pays
// for and does not need: collections of garbage (process.CollectLate), and threads that look for work on all processors. The
// image's init does not get these variables.
func ofGo() []string { return []string{"GOGC=400", "GOMAXPROCS=1"} }

// order is what Init is told about the box.
type order struct {
	Security    profiles.Security `json:"security"`
	HostNetwork bool              `json:"host_network"`       // the network is the host's
	OnLAN       bool              `json:"on_lan,omitempty"`   // the network is a LAN alone, whose routers the box believes as any machine there
	Volatile    bool              `json:"volatile,omitempty"` // the box keeps /var/log/journal in memory
	Bare        bool              `json:"bare"`               // boxrun is the image's own init: nothing is to be uncovered

	Inside6 *six.Inside `json:"inside6,omitempty"` // IPv6 in the box's own network
	Outward string      `json:"outward,omitempty"` // a device that leaves no checksums to others
}

// Environment returns the variables for the start of a confined box, the one for its first process among them; nil at the
// level host. bare: boxrun is the init of the image as well. inside6 is IPv6 in the box, nil for none. outward is the device
// that is to send packets with their checksums, "" for none.
func Environment(p profiles.Profile, bare bool, inside6 *six.Inside, outward string) []string {
	if !p.Security.Confined() {
		return nil
	}
	text, err := json.Marshal(order{Security: p.Security, HostNetwork: sharesNetwork(p), OnLAN: p.Network.Mode == profiles.LANMode,
		Volatile: volatile(p, journals), Bare: bare, Inside6: inside6, Outward: outward})
	if err != nil {
		panic(err) // strings and booleans always have a JSON form
	}
	return append(ofGo(), variable+"="+string(text))
}

// isTold reports whether a process has the variable for the first process of a box, and so is not the image's init yet. In the
// middle of an exec a process has no environment, not even an empty one: that counts as told.
func isTold(pid int) (bool, error) {
	file, err := os.Open(process.ProcFile(pid, "environ"))
	if err != nil {
		return false, err
	}
	defer file.Close()
	const most = 1 << 20 // the process may make its environment as large as memory is
	env, err := io.ReadAll(io.LimitReader(file, most))
	if len(env) == 0 && err == nil {
		bare, err := process.HasBareEnvironment(pid)
		return !bare, err
	}
	return slices.ContainsFunc(strings.Split(string(env), "\x00"), func(v string) bool { return strings.HasPrefix(v, variable+"=") }), err
}

// Wanted reports whether this process is to be the first process of a confined box.
func Wanted(args []string) bool {
	return args[0] == initPath && os.Getpid() == 1 && os.Getenv(variable) != ""
}

// Init confines the box and becomes the image's own init. Init returns only on failure, with a line in log and the exit
// code.
func Init(log io.Writer) int {
	runtime.LockOSThread() // namespaces and capabilities belong to a thread: the thread with all of them must execute
	err := confineSelf()
	if err == nil {
		err = becomeInit()
	}
	fmt.Fprintln(log, err)
	return 1
}

func confineSelf() error {
	var o order
	if err := json.Unmarshal([]byte(os.Getenv(variable)), &o); err != nil {
		return fmt.Errorf(Words+"reading %s: %w", variable, err)
	}
	for _, s := range o.steps() {
		if err := s.do(); err != nil {
			return fmt.Errorf(Words+"%s: %w", s.name, err)
		}
	}
	return nil
}

// A step is a part of the confinement, with what the step does for an error.
type step struct {
	name string
	do   func() error
}

// steps returns the steps, in their order: a mount shows the namespaces of the process that mounts, and mounts need
// capabilities dropped by the last step.
func (o order) steps() []step {
	strict := o.Security.Level == profiles.StrictLevel
	var list []step
	if o.Outward != "" {
		list = append(list, step{"making checksums before packets leave", func() error { return offload.Complete(o.Outward) }})
	}
	if o.Inside6 != nil { // before any program of the image can hear a neighbour, and while /proc/sys can be written
		list = append(list, step{"giving the box its IPv6 address", o.Inside6.Ensure})
	}
	list = append(list, []step{
		{"cutting mounts off the host's", detachFromHost},
		{"making shared memory of its own", ownMemory},
		{"making cgroups of its own", ownCgroups},
		{"making /sys read-only", closeSys},
		{"making /proc/sys read-only", func() error { return closeSysctls(strict && o.HostNetwork) }},
		{"making devices of its own", ownNodes},
		{"hiding files of the kernel", hideKernelFiles},
		{"making a boot of its own", ownBoot},
		{"making /dev/full", addFull},
	}...)
	if !o.HostNetwork && !o.OnLAN && o.Inside6 == nil { // with an IPv6 address that was the first to do
		list = append(list, step{"taking no router's word", six.BelieveNobody})
	}
	if !o.Bare {
		list = append(list, step{"masking units", maskUnits}, step{"placing settings", placeSettings}, step{"masking generators", maskGenerators},
			step{"keeping the journal", func() error { return keepJournal(o.Volatile) }})
	}
	if strict {
		list = append(list, step{"mounting what systemd cannot", mountForSystemd})
	} else if !o.Bare {
		list = append(list, step{"mounting what systemd would", mountAtOnce})
	}
	if o.Bare {
		list = append(list, step{"having the halt signal wait", holdHalt})
	} else {
		list = append(list, step{"uncovering " + initPath, uncoverInit},
			step{"shortening the boot", shortenBoot}, step{"shortening the end", shortenEnd})
	}
	return append(list,
		step{"sharing mounts", shareMounts},
		step{"dropping capabilities", func() error { return keepOnly(maskOf(capabilities(o.Security, o.HostNetwork))) }})
}

// holdHalt blocks the halt signal, for the programs that this thread executes: the runtime of Go in builtin:hello would drop
// a signal that comes before the init listens. To listen ends the block.
func holdHalt() error {
	var set unix.Sigset_t
	const bits, number = 8 * unsafe.Sizeof(set.Val[0]), uintptr(process.HaltSignal - 1)
	set.Val[number/bits] = 1 << (number % bits)
	return os.NewSyscallError("sigprocmask", unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil))
}

// becomeInit executes the image's init. The texts of errors are those of an Apptainer that executes the init itself.
func becomeInit() error {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return slices.Contains(ofGo(), v) || strings.HasPrefix(v, variable+"=") })
	err := syscall.Exec(initPath, os.Args, env)
	if errors.Is(err, os.ErrNotExist) {
		return errNoInit
	}
	return fmt.Errorf("the image's %s cannot be executed: %w", initPath, err)
}

// errNoInit is the error for an image without an init.
var errNoInit = errors.New("the image has no " + initPath + ", or not the interpreter it needs")
