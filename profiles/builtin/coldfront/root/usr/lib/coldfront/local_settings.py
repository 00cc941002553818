# The image's own settings, before those of the site in /etc/coldfront/local_settings.py.
import socket

from coldfront.config.base import ALLOWED_HOSTS, Q_CLUSTER

# Scheduled tasks wait in the database: there is no Redis here. A task is tried again when it has had its time, not before.
Q_CLUSTER["orm"] = "default"
Q_CLUSTER["retry"] = max(Q_CLUSTER["retry"], Q_CLUSTER["timeout"] + 10)


def own_addresses():
    try:
        return socket.gethostbyname_ex(socket.gethostname())[2]
    except OSError:
        return []


# "boxrun up" asks for the login page at the box's address, whatever names the site allows.
ALLOWED_HOSTS += ["localhost", *own_addresses()]
