// Package portforward connects to ports of a cluster's nodes through its API server, for operators without a direct route
// and without installing anything.
//
// A pod with hostNetwork shares its node's network, so a port-forward to it connects to 127.0.0.1 on the node, where
// protokube listens. [Open] finds one such pod of kube-system per node; [Gateway.Dial] connects. The forward is SPDY
// tunnelled over a WebSocket, or plain SPDY where an API server or proxy does not support that.
//
// It is not a general client: it lists pods and forwards ports, changes nothing, and does not listen. A program that
// listens only on another address than loopback cannot be reached this way; protokube listens on all.
package portforward
