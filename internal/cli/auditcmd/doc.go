// Package auditcmd has the commands that look and judge: audit, explain, describe and
// iam.
//
// They gather what package audit, package describe and package iam judge, and print
// what those say; no rule is here. They only read.
package auditcmd
