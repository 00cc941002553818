# stage.sh ROOT copies the recipe to ROOT/opt/recipe, where install.sh is to run, and with it how this machine reaches
# PyPI: the certificates it trusts and its pip.conf. install.sh removes all of it at its end.
set -eu
recipe=$1/opt/recipe
mkdir -p "$recipe"
cp -R install.sh requirements.txt root "$recipe"
for bundle in "${PIP_CERT:-}" /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt; do
	if [ -f "$bundle" ]; then
		cp "$bundle" "$recipe/ca.crt"
		break
	fi
done
if [ -f /etc/pip.conf ]; then
	cp /etc/pip.conf "$recipe/pip.conf"
fi
