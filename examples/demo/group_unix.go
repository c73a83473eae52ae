//go:build unix

package main

import "syscall"

// ownGroup puts a process into a group of its own, out of the terminal's reach.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
