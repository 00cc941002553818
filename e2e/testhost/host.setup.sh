# Everything is Debian 13 but Apptainer, which Debian has in unstable only.
mkdir -p "$1/etc/apt/preferences.d"
cat > "$1/etc/apt/preferences.d/apptainer" <<PREFERENCES
Package: *
Pin: release n=sid
Pin-Priority: 100

Package: apptainer
Pin: release n=sid
Pin-Priority: 990
PREFERENCES
