// Package enrol gives nodes their identity: it is the cluster's certificate
// authority, the one-time tokens that admit a new worker, the HTTPS exchange in
// which token and key become a certificate, and the files in which a node keeps
// the result and renews it.
//
// It is not a general certificate authority: it issues node certificates for one cluster, has no intermediates and no
// revocation list. It opens no listener; the node daemon does, and mounts [Server] on one. It grants no permissions:
// a certificate says who a node is (package identity), and whoever verifies it decides what that node may do.
//
//   - A certificate is only issued for a key whose owner proved possession of it.
//   - Enrolment never yields anything but a worker of this cluster; control-plane
//     certificates are made where the authority's key lives.
//   - A token admits one key. A repeated request with the same key is granted again, so a lost response never strands a worker.
//   - A private key is on stable storage before anybody is asked to certify it.
//   - A client trusts the cluster's authority alone, known by file or by pin:
//     neither the system's roots nor a name in DNS can stand in for it.
//   - Secrets appear in no error, no log line and no answer.
package enrol
