# The image's own settings, before those of the site in /etc/coldfront/local_settings.py.
import socket

from coldfront.config.base import ALLOWED_HOSTS, Q_CLUSTER
from coldfront.config.env import ENV

# Scheduled tasks wait in the database: there is no Redis here. A task is tried again when it has had its time, not before.
Q_CLUSTER["orm"] = "default"
Q_CLUSTER["retry"] = max(Q_CLUSTER["retry"], Q_CLUSTER["timeout"] + 10)
# After days of downtime a task runs once, not once for each run it missed: each run sends its mails.
Q_CLUSTER["catch_up"] = False
# django-q's own default is a worker for each processor of the host, 60 MB each.
Q_CLUSTER["workers"] = ENV.int("Q_CLUSTER_WORKERS", default=2)

# The portal answers by https alone. ColdFront says the same of the session's cookie.
CSRF_COOKIE_SECURE = True
# How long a browser refuses plain http, and a certificate that it does not trust, once it has been here.
SECURE_HSTS_SECONDS = ENV.int("SECURE_HSTS_SECONDS", default=0)


def own_addresses():
    try:
        return socket.gethostbyname_ex(socket.gethostname())[2]
    except OSError:
        return []


# "boxrun up" asks for the login page at the box's address, whatever names the site allows.
ALLOWED_HOSTS += ["localhost", *own_addresses()]
