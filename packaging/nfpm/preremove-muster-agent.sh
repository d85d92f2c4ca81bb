#!/bin/sh
# Stops the service on removal, but not on an upgrade (dpkg says "upgrade",
# rpm says 1). The hosts block stays; muster-agent cleanup removes it.
set -e
case "$1" in
remove | 0) if [ -d /run/systemd/system ]; then systemctl disable --now muster-agent.service; fi ;;
esac
