// Package portforward reaches ports of a cluster's nodes through its API server,
// where nothing else leads to them and nothing may be installed.
//
// A pod with hostNetwork has its node's network for its own, so a port-forward
// to such a pod lands on the node itself: at 127.0.0.1 there, where protokube
// listens. [Open] finds one such pod of kube-system a node; [Gateway.Dial]
// connects. The forward is a WebSocket with SPDY in it, or plain SPDY where an
// API server or a proxy before it does not know that.
//
// It is no general client: it lists pods and forwards ports, changes nothing,
// and listens nowhere. What listens on a specific address of the node only, and
// not on loopback, cannot be reached this way; protokube listens on all.
package portforward
