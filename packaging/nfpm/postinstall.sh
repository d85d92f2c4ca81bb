#!/bin/sh
# Tells systemd that units have come or gone. Nothing is enabled, started or
# restarted: when a node changes what it finds its API through is the operator's
# decision, on an upgrade too.
set -e
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
fi
