# Nothing of Podman runs but the containers started.
chroot "$1" systemctl disable -q podman.socket podman.service podman-auto-update.timer podman-restart.service 2> /dev/null || true
