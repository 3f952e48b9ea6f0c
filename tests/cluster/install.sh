#!/bin/sh
# What hosts.py needs, where it is absent: on Debian and as root it is installed; anywhere else the test says what is missing.
set -eu
packages='iproute2 openssh-client openssh-server procps rsync util-linux'
[ "$(id -u)" = 0 ] && [ -x /usr/bin/dpkg ] || exit 0
# shellcheck disable=SC2086
dpkg --status $packages > /dev/null 2>&1 && exit 0
# An installed openssh-server starts a server on the machine itself, unless this file forbids it.
if [ ! -e /usr/sbin/policy-rc.d ]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
fi
apt-get update --quiet=2
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet=2 --no-install-recommends $packages > /dev/null
