// Package coldfront tests the built-in profile coldfront as its users meet it: an administrator who follows
// docs/coldfront.md on a real host, and a browser on another machine.
package coldfront

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"boxrun/e2e/testhost"
)

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
	l := life{doc: readDoc(t), sandbox: otherWay(t)}
	for _, step := range []struct {
		name string
		run  func(host)
	}{
		{"build", l.build},
		{"start", l.start},
		{"versions", l.versions},
		{"a shell", l.shell},
		{"the first administrator", l.administrator},
		{"a browser logs in and creates a project", l.browser},
		{"plain http", l.plainHTTP},
		{"a task", l.task},
		{"a login page that is not served", l.notServed},
		{"settings", l.settings},
		{"down and up", l.downAndUp},
		{"plugins", l.plugins},
		{"names", l.names},
		{"another address, a shutdown and the portal at boot", l.shutdown},
		{"certificate", l.certificate},
		{"a power cut", l.powerCut},
		{"backup and restore", l.backup},
		{"a profile of one's own", l.ownProfile},
		{"another image", l.image},
		{"a dump of an older ColdFront", l.olderDump},
		{"an upgrade from an older ColdFront", l.upgrade},
		{"a database of another version", l.otherDatabase},
		{"a start with what is there before", l.prepared},
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
	sandbox func() (string, error) // the image as the recipe's other way makes it, a directory of the machine
	session string                 // of the administrator, from the browser's first visit on
}

// build makes the image as the README and the page say, on a host that lacks debootstrap at first.
func (l *life) build(h host) {
	r := h.run(l.doc.readme[0])
	if want := "boxrun: hint: install the package debootstrap"; r.Code != 1 || !strings.Contains(r.Stderr, want) {
		h.t.Errorf("building without debootstrap: %v\nwant exit code 1, and %q", r, want)
	}
	if r := h.online("apt-get update -q; apt-get install -q -y debootstrap"); r.Code != 0 {
		h.t.Fatalf("installing debootstrap, which needs Debian's mirrors: %v", r)
	}
	r = h.online(l.doc.take("Build the image"))
	if want := "boxrun: coldfront: built " + testhost.ColdfrontImage + " in "; r.Code != 0 || !strings.Contains(r.Stderr, want) {
		h.t.Fatalf("building the image, which needs Debian's mirrors and PyPI: %v\nwant %q", r, want)
	}
}

func (l *life) start(h host) {
	r := h.must(l.doc.readme[1])
	for _, want := range []string{"https://127.0.0.1/", l.doc.take("The first administrator")} {
		if !strings.Contains(r.Stderr, strings.TrimSpace(want)) {
			h.t.Errorf("up: %v\nwant a hint with %q", r, want)
		}
	}
	h.healthy()
}

// versions wants the page to say what the box has.
func (l *life) versions(h host) {
	r := h.must(`boxrun exec coldfront -- sh -ec '
		. /etc/os-release; echo Debian $VERSION_ID
		nginx -v 2>&1 | sed -n "s|.*nginx/\([0-9]*\.[0-9]*\).*|nginx \1|p"
		psql -V | sed -n "s/.* \([0-9]*\)\..*/PostgreSQL \1/p"
		python3 -V | sed "s/\.[0-9]*$//"'`)
	got := strings.ReplaceAll(strings.TrimSpace(r.Stdout), "\n", ", ")
	if tested := l.doc.tested(); !strings.HasPrefix(tested, got+" and ") {
		h.t.Errorf("the box has %s, and the page says that it was tested with %s", got, tested)
	}
}

// shell types the README's third command, and looks around.
func (l *life) shell(h host) {
	h.talk(l.doc.readme[2], [][2]string{{"root@coldfront:~#", "hostname | tr a-z A-Z"}, {"COLDFRONT", "exit"}})
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

// plainHTTP wants a redirect: a browser may have tried https by itself.
func (l *life) plainHTTP(h host) {
	got := h.curl("-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", "http://"+portal+"/project/?page=2")
	if want := "301 https://" + portal + "/project/?page=2"; got != want {
		h.t.Errorf("plain http is answered %q, want %q", got, want)
	}
}

// task has a task done by the unit that is there for it.
func (l *life) task(h host) {
	const ask = `from django_q.tasks import async_task, result; print("it is", result(async_task("math.copysign", 2, -2), wait=20000))`
	if r := h.must("boxrun exec coldfront -- coldfront shell -c '" + ask + "'"); !strings.Contains(r.Stdout, "it is -2.0\n") {
		h.t.Errorf("a task is done: %v\nwant its result, -2.0", r)
	}
}

// notServed has every unit active and every port open, but no login page.
func (l *life) notServed(h host) {
	h.must("echo 'ROOT_URLCONF = \"nowhere\"' > " + kept + "/etc/local_settings.py; boxrun exec coldfront -- systemctl restart gunicorn")
	r := h.run("boxrun up --wait-timeout 20s coldfront")
	if want := "/user/login answered 500"; r.Code != 5 || !strings.Contains(r.Stderr, want) {
		h.t.Errorf("up without a login page: %v\nwant exit code 5, and %q", r, want)
	}
	h.must("rm " + kept + "/etc/local_settings.py; boxrun exec coldfront -- systemctl restart gunicorn; boxrun up coldfront")
}

func (l *life) settings(h host) {
	const old = kept + "/data/static/of-an-older-version.js"
	h.must("touch " + old)
	h.must(l.doc.take("Settings"))
	h.visited(l.session, "Example HPC")
	h.must("test ! -e " + old + "; test -e " + kept + "/data/static/admin")
}

func (l *life) downAndUp(h host) {
	began := time.Now()
	h.must(l.doc.readme[3])
	if took := time.Since(began); took > 30*time.Second {
		h.t.Errorf("down took %v: a unit of the box does not stop when it is told to", took)
	}
	h.must(l.doc.take("Start it"))
	h.visited(l.session, project)
}

func (l *life) plugins(h host) {
	h.must("boxrun exec -e PLUGIN_AUTH_LDAP=True -e AUTH_LDAP_SERVER_URI=ldap://ldap.example.org -e AUTH_LDAP_USER_SEARCH_BASE=dc=org " +
		"-e AUTH_LDAP_GROUP_SEARCH_BASE=dc=org -e PLUGIN_LDAP_USER_SEARCH=True -e LDAP_USER_SEARCH_SERVER_URI=ldap://ldap.example.org " +
		"-e LDAP_USER_SEARCH_BASE=dc=org -e PLUGIN_API=True -e PLUGIN_SLURM=True -e PLUGIN_IQUOTA=True -e IQUOTA_KEYTAB=/k -e IQUOTA_CA_CERT=/c -e IQUOTA_API_HOST=h " +
		"coldfront -- coldfront check")
	h.must("boxrun exec coldfront -- /opt/coldfront/bin/python -c 'import mozilla_django_oidc, kerberos, dbus'")
}

// names sets the variables of how browsers reach the portal: by names, by another port, by a proxy.
func (l *life) names(h host) {
	h.must("printf '%s\\n' ALLOWED_HOSTS=" + portal + " HTTPS_PORT=8443 SECURE_HSTS_SECONDS=3600 GUNICORN_WORKERS=1 " +
		"CSRF_TRUSTED_ORIGINS=https://proxy.example.org >> " + kept + "/etc/coldfront.env; boxrun restart coldfront")
	if got := h.page(portal) + " " + h.page("other.example.org"); got != "200 400" {
		h.t.Errorf("the portal and another name answer %s, want 200 400", got)
	}
	if got := h.logInFrom("https://proxy.example.org") + " " + h.logInFrom("https://other.example.org"); got != "200 403" {
		h.t.Errorf("a form from a trusted proxy and from elsewhere is answered %s, want 200 403", got)
	}
	got := h.curl("-o", "/dev/null", "-w", "%{redirect_url}", "http://"+portal+"/project/")
	if want := "https://" + portal + ":8443/project/"; got != want {
		h.t.Errorf("plain http is led to %q, want %q", got, want)
	}
	got = h.curl("-o", "/dev/null", "-w", "%header{strict-transport-security}", "https://"+portal+"/user/login")
	if want := "max-age=3600"; got != want {
		h.t.Errorf("the header Strict-Transport-Security is %q, want %q", got, want)
	}
	if got := h.must("boxrun exec coldfront -- pgrep -cf /opt/coldfront/bin/gunicorn").Stdout; got != "2\n" {
		h.t.Errorf("gunicorn has %q processes, want itself and one worker", got)
	}
}

// shutdown has the host stop in order and boot again: the portal is there again, at yet another address.
func (l *life) shutdown(h host) {
	first := h.addr()
	h.must("boxrun down coldfront; boxrun up hello; boxrun up coldfront")
	second := h.addr()
	if second == first {
		h.t.Errorf("the box has %s again, want another address", first)
	}
	h.visited(l.session, project)
	h.must(l.doc.take("At boot"))
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	if err := errors.Join(h.Shutdown(ctx), h.Boot(ctx)); err != nil {
		h.t.Fatal(err)
	}
	if third := h.addr(); third == second {
		h.t.Errorf("after a reboot the box has %s again, want another address", second)
	}
	h.healthy()
	h.visited(l.session, project)
	h.databaseWas("shut down at")
}

func (l *life) powerCut(h host) {
	if err := h.Reboot(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	h.healthy()
	h.visited(l.session, project)
	h.databaseWas("interrupted")
}

func (l *life) certificate(h host) {
	h.must("openssl req -quiet -x509 -newkey rsa:2048 -noenc -days 2 -subj /CN=" + portal + " -keyout portal.key -out portal.crt")
	h.must(l.doc.take("Certificate"))
	h.presents(portal)
}

func (l *life) backup(h host) {
	h.must(l.doc.take("Backup"))
	// Tables that the dump does not have hold on to those that it has.
	h.must("boxrun exec -e PLUGIN_API=True coldfront -- coldfront migrate --noinput")
	h.must("boxrun exec -T -u postgres coldfront -- psql -qc 'delete from project_projectuser; delete from project_project' coldfront")
	h.must(l.doc.take("Restore"))
	h.visited(l.session, project)
}

func (l *life) image(h host) {
	if r := h.must(l.doc.take("A newer image")); !strings.Contains(r.Stderr, "nothing to change") {
		h.t.Errorf("up --build with the same recipe: %v\nwant that there is nothing to change", r)
	}
	before := h.must("sha256sum " + kept + "/etc/coldfront.env " + kept + "/etc/tls/*").Stdout
	h.anotherImage(l.sandbox)
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

// olderDump restores what testdata/coldfront-1.1.7.sh made with ColdFront 1.1.7, first cut short.
func (l *life) olderDump(h host) {
	if err := h.Copy(h.t.Context(), "testdata/coldfront-1.1.7.dump", "/root/old.dump"); err != nil {
		h.t.Fatal(err)
	}
	const count = `boxrun exec -T -u postgres coldfront -- psql -qAtd coldfront -c 'select (select count(*) from auth_user),
		(select count(*) from project_project), (select count(*) from allocation_allocation)'`
	before := h.must(count).Stdout
	r := h.run("head -c 100000 /root/old.dump | boxrun exec -T coldfront -- coldfront-restore")
	if after := h.must(count).Stdout; r.Code == 0 || after != before {
		h.t.Errorf("half a dump: %v\nusers, projects and allocations are %swant %s", r, after, before)
	}
	h.must("boxrun exec -T coldfront -- coldfront-restore < /root/old.dump; boxrun exec coldfront -- coldfront migrate --check; boxrun up coldfront")
	h.healthy()
	if got, want := h.must(count).Stdout, "51|2|6\n"; got != want {
		h.t.Errorf("users, projects and allocations are %swant %s", got, want)
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

// ownProfile begins a profile of the site's with the built-in one.
func (l *life) ownProfile(h host) {
	if r := h.must(l.doc.take("An image of your own")); !strings.Contains(r.Stderr, "/etc/boxrun/profiles/coldfront.toml: is valid") {
		h.t.Errorf("copying the profile: %v\nwant it to be found, and valid", r)
	}
	h.must("rm /etc/boxrun/profiles/coldfront.toml")
}

// prepared starts a portal that has nothing yet but a certificate, and one line of its settings.
func (l *life) prepared(h host) {
	h.must("boxrun down coldfront; rm -r " + kept + "/etc " + kept + "/postgresql " + kept + "/data")
	h.must("install -d " + kept + "/etc; install -d -m 700 " + kept + "/etc/tls; echo 'CENTER_NAME=Prepared HPC' > " + kept + "/etc/coldfront.env")
	h.must("install -m 644 portal.crt " + kept + "/etc/tls/coldfront.crt; install -m 600 portal.key " + kept + "/etc/tls/coldfront.key")
	h.must("boxrun up coldfront")
	h.healthy()
	h.presents(portal)
	got := h.must("sed -E 's/^(SECRET_KEY=)[0-9a-f]{64}$/\\1made/' " + kept + "/etc/coldfront.env").Stdout
	want := "CENTER_NAME=Prepared HPC\nSECRET_KEY=made\nDB_URL=psql:///coldfront\nSTATIC_ROOT=/srv/coldfront/static\n"
	if got != want {
		h.t.Errorf("the settings are\n%swant\n%s", got, want)
	}
	if home := h.curl("https://" + portal + "/"); !strings.Contains(home, "Prepared HPC") {
		h.t.Errorf("the home page says\n%s\nwant the name of the settings", home)
	}
}

// loginStyle is what ColdFront's stylesheet makes of the login page. Without it there is no color, and another font.
const loginStyle = `rgb(31, 29, 29) system-ui`
