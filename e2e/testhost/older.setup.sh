# Everything is of the release itself: of newer suites single packages are fetched, and none is installed.
mkdir -p "$1/etc/apt/preferences.d"
cat > "$1/etc/apt/preferences.d/newer" <<PREFERENCES
Package: *
Pin: release n=sid
Pin-Priority: -1

Package: *
Pin: release n=trixie
Pin-Priority: -1
PREFERENCES
