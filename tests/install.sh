#!/bin/sh
# Installs the Debian packages named that tests need: as root on Debian; anywhere else the tests say what is missing.
set -eu
[ "$(id -u)" = 0 ] && [ -x /usr/bin/dpkg ] || exit 0
dpkg --status "$@" > /dev/null 2>&1 && exit 0
# An installed openssh-server starts a server on the machine itself, unless this file forbids it.
if [ ! -e /usr/sbin/policy-rc.d ]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
fi
apt-get update --quiet=2
DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet=2 --no-install-recommends "$@" > /dev/null
