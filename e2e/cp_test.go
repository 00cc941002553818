package e2e

import (
	"strings"
	"testing"
	"time"
)

// tree makes a directory with all that a copy has to keep, at a path of whoever runs it. A set-group-id bit it does not
// have: on Apptainer's overlay chmod itself loses that, as its mount was made without CAP_FSETID.
const tree = `
mkdir -p "$1"/sub/empty && cd "$1"
printf one > plain; printf two > sub/setuid; printf '' > 'a name: with $odd "things'
chown 1234:4321 plain; chmod 640 plain; chown 7:8 sub/setuid; chmod 4755 sub/setuid
ln plain sub/hard; ln -s plain link; ln -s /etc/passwd absolute; ln -s nowhere dangling; chown -h 11:12 dangling
mkfifo -m 622 pipe
head -c 3000000 /dev/zero | tr '\0' x > sub/big
chown 99:98 sub; chmod 1711 sub; chmod 500 sub/empty
touch -d '2001-02-03 04:05:06.789 UTC' plain sub/setuid sub/big pipe sub/empty
touch -h -d '2002-02-02 02:02:02 UTC' link dangling
touch -d '2003-03-03 03:03:03 UTC' sub .
`

// listing prints a tree as a copy has to have it.
const listing = `cd "$1" && find . -printf '%p %y %m %U:%G %s %n %t %l\n' | sed -E 's/^(.* d [0-9]+ [0-9:]+) [0-9]+ [0-9]+/\1/' | sort &&
	find . -type f -exec md5sum {} + | sort`

func TestCopyKeepsAll(t *testing.T) {
	h := newHost(t)
	h.must("boxrun", "up", "web")
	h.must("bash", "-ec", tree, "bash", "/srv/tree")
	want := h.must("bash", "-ec", listing, "bash", "/srv/tree")

	h.must("boxrun", "cp", "/srv/tree", "web:/opt/copy")
	if got := h.must("boxrun", "exec", "web", "--", "bash", "-ec", listing, "bash", "/opt/copy"); got != want {
		t.Errorf("in the box:\n%s\nwant:\n%s", got, want)
	}
	h.must("boxrun", "cp", "--setuid", "web:/opt/copy", "/srv/back")
	if got := h.must("bash", "-ec", listing, "bash", "/srv/back"); got != want {
		t.Errorf("back on the host:\n%s\nwant:\n%s", got, want)
	}
	h.must("boxrun", "cp", "web:/opt/copy", "/srv/back/.")
	h.must("boxrun", "cp", "--setuid", "web:/opt/copy/.", "/srv/back")
	h.sh("rm -r /srv/back/copy; touch -d '2003-03-03 03:03:03 UTC' /srv/back")
	if got := h.must("bash", "-ec", listing, "bash", "/srv/back"); got != want {
		t.Errorf("copied over itself:\n%s\nwant:\n%s", got, want)
	}
}

// Where a copy goes, as with docker cp and cp -a.
func TestCopyGoesWhereCpPutsIt(t *testing.T) {
	h := newHost(t)
	h.must("boxrun", "up", "web")
	h.sh("mkdir -p /srv/in/dir /srv/out /srv/emptied/hostname && echo new > /srv/in/file && echo old > /srv/out/file")
	for _, c := range []struct{ source, target, want string }{
		{"web:/etc/hostname", "/srv/out", "/srv/out/hostname"},
		{"web:/etc/hostname", "/srv/out/", "/srv/out/hostname"},
		{"web:/etc/hostname", "/srv/out/other", "/srv/out/other"},
		{"web:etc/hostname", "/srv/out/file", "/srv/out/file"},
		{"web:/etc/apt", "/srv/out", "/srv/out/apt/apt.conf.d"},
		{"web:/etc/apt", "/srv/out/new", "/srv/out/new/apt.conf.d"},
		{"web:/etc/apt/.", "/srv/out", "/srv/out/apt.conf.d"},
		{"web:/bin/.", "/srv/out/bin", "/srv/out/bin/bash"}, // /bin is a link
	} {
		h.must("boxrun", "cp", c.source, c.target)
		if r := h.run("test", "-e", c.want); r.Code != 0 {
			t.Errorf("cp %s %s: there is no %s", c.source, c.target, c.want)
		}
	}
	h.copiesWhatLinksLeadTo()
	h.must("boxrun", "cp", "/srv/in", "web:/srv")
	h.must("boxrun", "cp", "/srv/in/file", "web:/srv/in/dir/")
	if got := h.must("boxrun", "exec", "web", "--", "cat", "/srv/in/file", "/srv/in/dir/file"); got != "new\nnew\n" {
		t.Errorf("in the box: %q", got)
	}
	for _, c := range []struct {
		code           int
		source, target string
		words          []string
	}{
		{3, "nosuch:/etc/hostname", "/srv/out", []string{"nosuch"}},
		{2, "/etc/hostname", "/srv/out", []string{"PROFILE:/path"}},
		{2, "web:/etc/hostname", "web:/srv", []string{"PROFILE:/path"}},
		{1, "web:/nowhere", "/srv/out", []string{"in the box: copying /nowhere: no such file"}},
		{1, "web:/etc/hostname", "/srv/nowhere/file", []string{"/srv/nowhere", "no such file"}},
		{1, "web:/etc/hostname", "/srv/nowhere/", []string{"/srv/nowhere/"}},
		{1, "web:/etc/apt", "/srv/in/file", []string{"/srv/in/file", "no directory"}},
		{1, "/srv/nowhere", "web:/srv", []string{"error: copying /srv/nowhere: no such file"}},
		{1, "/srv/in/file", "web:/nowhere/file", []string{"in the box", "/nowhere", "no such file"}},
		{1, "web:/etc/hostname", "/srv/emptied", []string{"/srv/emptied/hostname: what is there is a directory"}},
		{1, "/srv/in/file", "web:/etc/hosts", []string{"in the box", "/etc/hosts"}}, // boxrun's own, bound read-only
		{1, "web:/dev/null", "/srv/out/null", []string{"in the box: copying /dev/null: it is a socket or a device"}},
		{1, "/dev/null", "web:/srv", []string{"error: copying /dev/null: it is a socket or a device"}},
		{1, "web:/run/systemd/private", "/srv/out", []string{"in the box: copying /run/systemd/private: it is a socket"}},
		{1, "web:/proc/1/mem", "/srv/out", []string{"in the box: copying /proc/1/mem: "}},
	} {
		h.fails(c.code, append(c.words, "boxrun: error: "), "boxrun", "cp", c.source, c.target)
	}
	h.refuses(1, []string{"cp", "root"}, "runuser", "-u", "alice", "--", "boxrun", "cp", "web:/etc/hostname", "/tmp")
	h.copiesTars()
}

// copiesWhatLinksLeadTo wants -L to mean the link that is the source, and no link below, as with docker cp.
func (h host) copiesWhatLinksLeadTo() {
	h.must("boxrun", "exec", "web", "--", "bash", "-ec",
		"mkdir /srv/led; echo led > /srv/led/file; ln -s file /srv/led/below; ln -s led /srv/link; ln -s link/file /srv/to; ln -s /srv/led/nowhere /srv/broken")
	h.sh("mkdir /srv/l; cd /srv/l; boxrun cp web:/srv/link plain; boxrun cp -L web:/srv/to .; boxrun cp -L web:/srv/link .; boxrun cp -L web:/srv/to - | tar x -O > piped")
	if got := h.sh("cd /srv/l; readlink plain; cat to piped; readlink link/below; cat link/file; test ! -h to -a ! -h link"); got != "led\nled\nled\nfile\nled\n" {
		h.t.Errorf("out of the box: %q", got)
	}
	h.sh("ln -s /srv/l/to /srv/l/away; boxrun cp -L /srv/l/away web:/srv/led/; boxrun cp --follow-link /srv/l/link/. web:/srv/in3")
	if got := h.must("boxrun", "exec", "web", "--", "sh", "-c", "cat /srv/led/away /srv/in3/file; test ! -h /srv/led/away"); got != "led\nled\n" {
		h.t.Errorf("in the box: %q", got)
	}
	h.fails(1, []string{"in the box: copying /srv/broken: no such file"}, "boxrun", "cp", "-L", "web:/srv/broken", "/srv/l")
}

// copiesTars wants "-" to mean a tar, as with docker cp, and what the kernel makes in a box to come whole.
func (h host) copiesTars() {
	h.sh("mkdir /srv/tar; cd /srv/tar; boxrun cp web:/etc/apt - | tar x; boxrun cp web:/etc/hostname - | tar x; boxrun cp web:/proc/1/environ .")
	if got := h.sh("ls -d /srv/tar/apt/apt.conf.d; cat /srv/tar/hostname; tr '\\0' '\n' < /srv/tar/environ | grep -c ^container="); got != "/srv/tar/apt/apt.conf.d\nweb\n1\n" {
		h.t.Errorf("from the box: %q", got)
	}
	h.sh("tar c -C /srv/in . | boxrun cp - web:/srv/in2; echo web > /srv/tar/-; cd /srv/tar; boxrun cp ./- web:/srv/dash")
	if got := h.must("boxrun", "exec", "web", "--", "cat", "/srv/in2/file", "/srv/dash"); got != "new\nweb\n" {
		h.t.Errorf("in the box: %q", got)
	}
	h.fails(1, []string{"reading a tar from stdin"}, "sh", "-c", "echo text | boxrun cp - web:/srv")
	h.sh("tar c -C /srv/in . > /srv/in.tar; truncate -s 512 /srv/in.tar")
	h.fails(1, []string{"reading a tar from stdin: it is cut short"}, "sh", "-c", "boxrun cp - web:/srv < /srv/in.tar")
	if r, err := h.terminal("boxrun", "cp", "web:/etc/apt", "-").Wait(10 * time.Second); err != nil || r.Code != 2 || !strings.Contains(r.Stdout, "a tar is for no terminal") {
		h.t.Errorf("to a terminal: %v, %v", r, err)
	}
}

// Links in the box lead where they lead there: root in it cannot have a copy touch the host's files, or give them away.
func TestCopyStaysInTheBox(t *testing.T) {
	h := newHost(t)
	h.must("boxrun", "up", "web")
	h.sh("mkdir /srv/secret && echo the host > /srv/secret/file && echo the host > /srv/file && mkdir -p /srv/out/tree")
	h.must("boxrun", "exec", "web", "--", "bash", "-ec", `
		mkdir -p /srv/secret /srv/tree; echo the box > /srv/secret/file; ln -s /srv/secret /srv/away; ln -s /srv/secret/file /srv/tree/link
		ln -s ../../../../../../../srv/secret /srv/up`)
	h.sh("echo copied > /srv/new")
	for _, target := range []string{"/srv/away/file", "/srv/away", "/srv/up"} {
		h.must("boxrun", "cp", "/srv/new", "web:"+target)
	}
	for _, source := range []string{"/srv/away/.", "/srv/up/."} {
		h.must("boxrun", "cp", "web:"+source, "/srv/out")
	}
	if got := h.sh("cat /srv/out/new; cat /srv/out/file; cat /srv/secret/*"); got != "copied\ncopied\nthe host\n" {
		t.Errorf("got %q", got)
	}
	// A link on the host in the way of the copy is replaced, not written through.
	h.sh("ln -s /srv/secret/file /srv/out/tree/link2; ln -s /srv/secret /srv/out/tree/dir")
	h.must("boxrun", "exec", "web", "--", "bash", "-ec", "echo evil > /srv/tree/link2; mkdir /srv/tree/dir; echo evil > /srv/tree/dir/file")
	if r := h.run("boxrun", "cp", "web:/srv/tree", "/srv/out"); r.Code != 1 || !strings.Contains(r.Stderr, "no directory") {
		t.Errorf("over a link to a directory: %v", r)
	}
	h.sh("rm /srv/out/tree/dir")
	h.must("boxrun", "cp", "web:/srv/tree", "/srv/out")
	if got := h.sh("cat /srv/secret/file; readlink /srv/out/tree/link; cat /srv/out/tree/link2"); got != "the host\n/srv/secret/file\nevil\n" {
		t.Errorf("got %q", got)
	}
}

// A copy needs nothing of the image: hello's has no tar, and is told of devices that were left out.
func TestCopyNeedsNothingOfTheImage(t *testing.T) {
	h := newHost(t)
	h.must("boxrun", "up", "hello")
	h.sh("mkdir /srv/dev; mknod /srv/dev/null c 1 3; echo text > /srv/dev/file")
	r := h.run("boxrun", "cp", "/srv/dev", "hello:/tmp")
	if r.Code != 0 || !strings.Contains(r.Stderr, "left out /srv/dev/null") {
		t.Errorf("cp: %v, want a word about the device", r)
	}
	h.must("boxrun", "cp", "hello:/tmp/dev/file", "/srv/copy")
	if got := h.sh("cat /srv/copy"); got != "text\n" {
		t.Errorf("got %q", got)
	}
}
