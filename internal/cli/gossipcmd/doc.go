// Package gossipcmd has muster gossip: inspect, watch, publish and withdraw, on the two
// overlays of kOps's protokube.
//
// It turns flags and a spec into addresses, overlays and secrets, and prints. What is
// read, judged, written and held is the work of package gossip, which refuses what is
// not safe.
package gossipcmd
