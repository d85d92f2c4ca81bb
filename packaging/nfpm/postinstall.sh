#!/bin/sh
# Makes systemd reload its units. Nothing is enabled, started or restarted, on an
# upgrade either: when a node switches how it finds its API is the operator's
# decision.
set -e
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
fi
