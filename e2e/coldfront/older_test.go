package coldfront

import (
	"strings"

	"boxrun/e2e/testhost"
)

// olderImage makes, from the portal's own image, one of ColdFront 1.1.7 at /srv/older, with the packages that its time had.
// Needs PyPI.
const olderImage = `cp -a ` + testhost.ColdfrontImage + ` /srv/older; cd /srv/older
cp -L /etc/ssl/certs/ca-certificates.crt tmp/ca.crt; if [ -f /etc/pip.conf ]; then cp /etc/pip.conf tmp/pip.conf; fi
cp -L /etc/resolv.conf etc/resolv.conf
for dir in dev proc; do mount --rbind /$dir $dir; done
export PIP_CERT=/tmp/ca.crt PIP_CONFIG_FILE=/tmp/pip.conf PIP_ROOT_USER_ACTION=ignore
chroot . /opt/coldfront/bin/pip install -q --no-cache-dir --only-binary=:all: coldfront==1.1.7 django-simple-history==3.10.1 'bibtexparser<2'
rm -f tmp/ca.crt tmp/pip.conf
test -L opt/coldfront/lib/python3.*/site-packages/coldfront/config/local_settings.py
echo of 1.1.7 > usr/lib/coldfront/image`

// people is what nobody may lose: who logs in with what, and what they work on.
const people = `boxrun exec -T -u postgres coldfront -- psql -qAtd coldfront -c "select username, password from auth_user order by 1" \
	-c "select p.title, u.username from project_project p join auth_user u on u.id = p.pi_id order by 1" \
	-c "select a.id, p.title, s.name from allocation_allocation a join project_project p on p.id = a.project_id
		join allocation_allocationstatuschoice s on s.id = a.status_id order by 1"`

// openMigrations counts what the image has and the database has not.
const openMigrations = "boxrun exec -T coldfront -- coldfront showmigrations --plan | grep -c '^\\[ \\]'"

// upgrade runs a portal of ColdFront 1.1.7, and then the image of today on what that has made. A migration that cannot be
// done is told, and no portal is served without; one start later all is there.
func (l *life) upgrade(h host) {
	if r := h.online(olderImage); r.Code != 0 {
		h.t.Fatalf("making an image of ColdFront 1.1.7, which needs PyPI: %v", r)
	}
	h.must("boxrun down coldfront; rm -r " + kept + "/postgresql " + kept + "/data; mv " + testhost.ColdfrontImage + " /srv/newer; mv /srv/older " + testhost.ColdfrontImage)
	h.must("boxrun up coldfront")
	h.healthy()
	if got := h.must("boxrun exec coldfront -- /opt/coldfront/bin/pip show coldfront").Stdout; !strings.Contains(got, "\nVersion: 1.1.7\n") {
		h.t.Fatalf("the older image has\n%s\nwant ColdFront 1.1.7", got)
	}
	h.must("boxrun exec coldfront -- coldfront load_test_data")
	before := h.must(people).Stdout
	if !strings.Contains(before, "cgray|") || !strings.Contains(before, "|Active\n") {
		h.t.Fatalf("users, projects and allocations are\n%s\nwant some", before)
	}

	h.must("boxrun exec -T -u postgres coldfront -- psql -qc 'alter table django_migrations owner to postgres' coldfront")
	h.must("boxrun down coldfront; mv " + testhost.ColdfrontImage + " /srv/older; mv /srv/newer " + testhost.ColdfrontImage)
	r := h.run("boxrun up coldfront")
	for _, want := range []string{"unit coldfront-setup.service failed", "the database is not migrated, and no portal is served without"} {
		if r.Code != 5 || !strings.Contains(r.Stderr, want) {
			h.t.Errorf("up with a database that cannot be migrated: %v\nwant exit code 5, and %q", r, want)
		}
	}
	if got := h.page(portal) + h.page(portal); got != "502502" {
		h.t.Errorf("without a migrated database the portal answers %s, want 502 twice", got)
	}
	if got := h.must("boxrun logs -u coldfront-setup coldfront | grep -c 'database is not migrated'").Stdout; got != "1\n" {
		h.t.Errorf("visits have the setup run anew: it failed %swant once", got)
	}

	h.must("boxrun exec -T -u postgres coldfront -- psql -qc 'alter table django_migrations owner to coldfront' coldfront")
	if got := h.must(openMigrations).Stdout; got == "0\n" {
		h.t.Error("the database of 1.1.7 lacks no migration of the newer image")
	}
	h.must("boxrun restart coldfront; boxrun exec coldfront -- coldfront migrate --check")
	h.healthy()
	if after := h.must(people).Stdout; after != before {
		h.t.Errorf("after the upgrade there are\n%s\nwant as before\n%s", after, before)
	}
	if s := h.visit(visit{User: "cgray", Password: "test1234"}); !strings.Contains(s.Projects, "Angular momentum in QGP holography") {
		h.t.Errorf("after the upgrade the list of projects says\n%s\nwant the one there was", s.Projects)
	}
	h.must("rm -r /srv/older")
}
