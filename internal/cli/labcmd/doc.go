// Package labcmd has the commands that run a cluster on this machine: lab and rehearse.
//
// It starts nothing itself but the lab's supervisor, in the background; processes are
// the work of package lab, what happens to them of package rehearse, and the control of
// a running lab of package labctl. No command here changes a real cluster.
package labcmd
