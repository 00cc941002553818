// Package coldfront tests the built-in profile coldfront as its users meet it: an administrator who follows
// docs/coldfront.md on a real host, and a browser on another machine.
package coldfront

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"boxrun/e2e/testhost"
)

// patience is how long any one command may take. The longest is the first up, which makes the database.
const patience = 5 * time.Minute

// host is a test host with boxrun, and with the image of ColdFront where its profile looks for it.
type host struct {
	*testhost.Host
	t *testing.T
}

func newHost(t *testing.T) host {
	t.Helper()
	th, err := testhost.New(t.Context(), func(step string) { t.Log(step) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := th.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := th.AddColdfront(t.Context(), func(step string) { t.Log(step) }); err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := testhost.Build(t.Context(), bin); err != nil {
		t.Fatal(err)
	}
	if err := th.Install(t.Context(), bin); err != nil {
		t.Fatal(err)
	}
	return host{th, t}
}

// run runs a script on the host, however it ends.
func (h host) run(script string) testhost.Result {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	r, err := h.Exec(ctx, "bash", "-ec", script)
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// must runs a script on the host that has to succeed, and gives what it said.
func (h host) must(script string) testhost.Result {
	h.t.Helper()
	r := h.run(script)
	if r.Code != 0 {
		h.t.Fatalf("%s\n%v", script, r)
	}
	return r
}

// page has curl on the client fetch a page of the portal by a name, and gives the code of the answer.
func (h host) page(name string) string {
	h.t.Helper()
	r, err := h.Client(h.t.Context(), "curl", "-sSk", "-m", "20", "-o", "/dev/null", "-w", "%{http_code}",
		"--resolve", name+":443:"+testhost.HostAddr, "https://"+name+"/user/login")
	if err != nil {
		h.t.Fatal(err)
	}
	return r.Stdout + r.Stderr
}

// addr gives the address of the box.
func (h host) addr() string {
	h.t.Helper()
	return strings.TrimSpace(h.must("boxrun ps --json | jq -r '.[] | select(.name == \"coldfront\").address'").Stdout)
}

const (
	admin    = "ada"
	password = "lovelace-1843"
	project  = "Analytical engine"
	kept     = "/var/lib/boxrun/coldfront"
)

// TestColdfront is the life of one portal, from an empty host on. Its steps are the sections of docs/coldfront.md,
// with their commands as they stand there.
func TestColdfront(t *testing.T) {
	if os.Getenv("BOXRUN_COLDFRONT") == "" {
		t.Skip("builds and runs a portal, for minutes: run \"make test-coldfront\"")
	}
	if os.Geteuid() != 0 {
		t.Fatal("test hosts need root")
	}
	h := newHost(t)
	l := life{doc: readDoc(t)}
	for _, step := range []struct {
		name string
		run  func(host)
	}{
		{"start", l.start},
		{"the first administrator", l.administrator},
		{"a browser logs in and creates a project", l.browser},
		{"settings", l.settings},
		{"down and up", l.downAndUp},
		{"plugins", l.plugins},
		{"names", l.names},
		{"another address, a reboot and the portal at boot", l.rebootElsewhere},
		{"certificate", l.certificate},
		{"backup and restore", l.backup},
		{"another image", l.image},
		{"a database of another version", l.otherDatabase},
	} {
		began := time.Now()
		if !t.Run(step.name, func(t *testing.T) { step.run(host{h.Host, t}) }) {
			h.t = t
			t.Fatalf("%s: the steps after it depend on it; the box says\n%s", step.name, h.run("boxrun logs -n 60 coldfront").Stdout)
		}
		t.Logf("%s: %v", step.name, time.Since(began).Round(100*time.Millisecond))
	}
	l.doc.allTaken(t)
}

// life is one portal's. Its steps build on those before.
type life struct {
	doc     doc
	session string // of the administrator, from the browser's first visit on
}

func (l *life) start(h host) {
	r := h.must(l.doc.take("Start it"))
	if !strings.Contains(r.Stderr, "https://127.0.0.1/") {
		h.t.Errorf("up: %v\nwant a hint with the address", r)
	}
	h.healthy()
}

func (l *life) administrator(h host) {
	h.createAdmin(l.doc.take("The first administrator"))
}

func (l *life) browser(h host) {
	picture := filepath.Join(h.t.ArtifactDir(), "coldfront.png")
	s := h.visit(visit{User: admin, Password: password, Create: project, Screenshot: picture})
	h.t.Logf("the last page is in %s", picture)
	if !strings.Contains(s.Projects, project) {
		h.t.Errorf("the list of projects says\n%s\nwant %q", s.Projects, project)
	}
	if got, want := s.Title, "Log In"; got != want {
		h.t.Errorf("the login page is titled %q, want %q", got, want)
	}
	if got, want := s.Login, loginStyle; got != want {
		h.t.Errorf("the login page is styled %q, want %q", got, want)
	}
	l.session = s.Session
}

func (l *life) settings(h host) {
	h.must(l.doc.take("Settings"))
	h.visited(l.session, "Example HPC")
}

func (l *life) downAndUp(h host) {
	began := time.Now()
	h.must("boxrun down coldfront")
	if took := time.Since(began); took > 30*time.Second {
		h.t.Errorf("down took %v: a unit of the box does not stop when it is told to", took)
	}
	h.must("boxrun up coldfront")
	h.visited(l.session, project)
}

func (l *life) plugins(h host) {
	h.must("boxrun exec -e PLUGIN_AUTH_LDAP=True -e AUTH_LDAP_SERVER_URI=ldap://ldap.example.org -e AUTH_LDAP_USER_SEARCH_BASE=dc=org " +
		"-e AUTH_LDAP_GROUP_SEARCH_BASE=dc=org -e PLUGIN_LDAP_USER_SEARCH=True -e LDAP_USER_SEARCH_SERVER_URI=ldap://ldap.example.org " +
		"-e LDAP_USER_SEARCH_BASE=dc=org -e PLUGIN_API=True -e PLUGIN_SLURM=True coldfront -- coldfront check")
	h.must("boxrun exec coldfront -- /opt/coldfront/bin/python -c 'import mozilla_django_oidc'")
}

func (l *life) names(h host) {
	h.must("echo ALLOWED_HOSTS=" + portal + " >> " + kept + "/etc/coldfront.env; boxrun restart coldfront")
	if got := h.page(portal) + " " + h.page("other.example.org"); got != "200 400" {
		h.t.Errorf("the portal and another name answer %s, want 200 400", got)
	}
}

func (l *life) rebootElsewhere(h host) {
	first := h.addr()
	h.must("boxrun down coldfront; boxrun up hello; boxrun up coldfront")
	second := h.addr()
	if second == first {
		h.t.Errorf("the box has %s again, want another address", first)
	}
	h.visited(l.session, project)
	h.must(l.doc.take("At boot"))
	if err := h.Reboot(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	if third := h.addr(); third == second {
		h.t.Errorf("after a reboot the box has %s again, want another address", second)
	}
	h.healthy()
	h.visited(l.session, project)
}

func (l *life) certificate(h host) {
	h.must("openssl req -quiet -x509 -newkey rsa:2048 -noenc -days 2 -subj /CN=" + portal + " -keyout portal.key -out portal.crt")
	h.must(l.doc.take("Certificate"))
	h.presents(portal)
}

func (l *life) backup(h host) {
	h.must(l.doc.take("Backup"))
	h.must("boxrun exec -T -u postgres coldfront -- psql -qc 'delete from project_projectuser; delete from project_project' coldfront")
	h.must(l.doc.take("Restore"))
	h.visited(l.session, project)
}

func (l *life) image(h host) {
	before := h.must("sha256sum " + kept + "/etc/coldfront.env " + kept + "/etc/tls/*").Stdout
	h.anotherImage()
	h.must("boxrun up --replace coldfront")
	h.healthy()
	h.presents(portal)
	h.visited(l.session, project)
	if after := h.must("sha256sum " + kept + "/etc/coldfront.env " + kept + "/etc/tls/*").Stdout; after != before {
		h.t.Errorf("with another image the settings are\n%s\nwant\n%s", after, before)
	}
	if r := h.must("boxrun logs -u coldfront-setup.service -n 50 coldfront"); !strings.Contains(r.Stdout, "No migrations to apply") {
		h.t.Errorf("with another image the setup says\n%s\nwant that it looked for migrations", r.Stdout)
	}
}

func (l *life) otherDatabase(h host) {
	h.must("boxrun down coldfront; mv " + kept + "/postgresql/17 " + kept + "/postgresql/15; echo 15 > " + kept + "/postgresql/15/main/PG_VERSION")
	began := time.Now()
	r := h.run("boxrun up coldfront")
	if r.Code != 5 || !strings.Contains(r.Stderr, "the data is of PostgreSQL 15 and this image has 17") {
		h.t.Errorf("up: %v\nwant exit code 5, and the versions", r)
	}
	if took := time.Since(began); took > time.Minute {
		h.t.Errorf("up waited %v for what could not come", took)
	}
	if got := h.must("ls " + kept + "/postgresql").Stdout; got != "15\n" {
		h.t.Errorf("in the place of the data there is %q, want it left alone", got)
	}
}

// loginStyle is what ColdFront's stylesheet makes of the login page. Without it there is no color, and another font.
const loginStyle = `rgb(31, 29, 29) system-ui`

// healthy wants every unit of the box to do well, and its secrets to be for those who need them.
func (h host) healthy() {
	h.t.Helper()
	if r := h.run("boxrun exec coldfront -- systemctl is-system-running"); r.Stdout != "running\n" {
		h.t.Errorf("the box is %v%s", r, h.run("boxrun exec coldfront -- systemctl --failed").Stdout)
	}
	got := h.must("cd " + kept + "; stat -c '%a %u:%g %n' etc etc/coldfront.env etc/tls etc/tls/coldfront.key postgresql/17/main").Stdout
	want := "750 0:880 etc\n640 0:880 etc/coldfront.env\n700 0:0 etc/tls\n600 0:0 etc/tls/coldfront.key\n700 881:881 postgresql/17/main\n"
	if got != want {
		h.t.Errorf("files are\n%swant\n%s", got, want)
	}
}

// createAdmin answers what the command asks on a terminal.
func (h host) createAdmin(command string) {
	h.t.Helper()
	term, err := h.Terminal(h.t.Context(), 24, 100, "bash", "-c", command)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, talk := range [][2]string{
		{"Username", admin}, {"Email address", "ada@example.org"}, {"Password", password}, {"Password (again)", password},
	} {
		if err := term.Expect(talk[0], 30*time.Second); err != nil {
			h.t.Error(err)
			break
		}
		if err := term.Type(talk[1] + "\n"); err != nil {
			h.t.Error(err)
		}
	}
	r, err := term.Wait(30 * time.Second)
	if err != nil || r.Code != 0 || !strings.Contains(r.Stdout, "Superuser created successfully.") {
		h.t.Fatalf("%v %v", err, r)
	}
}

// visited wants somebody with an earlier session to be logged in still, and to see text on the home page.
func (h host) visited(session, text string) {
	h.t.Helper()
	if s := h.visit(visit{Session: session}); !strings.Contains(s.Home, text) {
		h.t.Errorf("the home page says\n%s\nwant %q in it", s.Home, text)
	}
}

// presents wants the portal to have the certificate of a name, soon: nginx says that it reloads before it has.
func (h host) presents(name string) {
	h.t.Helper()
	const ask = "echo | openssl s_client -connect 127.0.0.1:443 2> /dev/null | openssl x509 -noout -subject"
	var got string
	for range 50 {
		if got = strings.TrimSpace(h.must(ask).Stdout); got == "subject=CN="+name || got == "subject=CN = "+name {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	h.t.Errorf("the certificate has %s, want that of %s", got, name)
}

// anotherImage puts an image in the place of the one there is: one that says it is newer, and a sandbox this time.
func (h host) anotherImage() {
	h.t.Helper()
	root, err := testhost.ColdfrontRoot(h.t.Context(), func(step string) { h.t.Log(step) })
	if err != nil {
		h.t.Fatal(err)
	}
	h.must("rm " + testhost.ColdfrontImage)
	if err := h.CopyTree(root, testhost.ColdfrontImage); err != nil {
		h.t.Fatal(err)
	}
	h.must("echo newer > " + testhost.ColdfrontImage + "/usr/lib/coldfront/image")
}
