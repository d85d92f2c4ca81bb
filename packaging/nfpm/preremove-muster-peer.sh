#!/bin/sh
# Stops the service on removal, but not on an upgrade (dpkg says "upgrade",
# rpm says 1). The hosts block stays; muster-peer cleanup removes it.
set -e
case "$1" in
remove | 0) if [ -d /run/systemd/system ]; then systemctl disable --now muster-peer.service muster-protokube.service; fi ;;
esac
