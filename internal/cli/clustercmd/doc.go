// Package clustercmd has the commands that make and change what a cluster is written
// down as: get, create, edit, replace, export, validate and install on the spec in a
// state store, and init and token for clusters that kOps did not make.
//
// They ask neither cloud nor nodes: what a cluster really is, package auditcmd shows,
// and package migratecmd changes it. Nothing is written before it was shown and agreed
// to.
package clustercmd
