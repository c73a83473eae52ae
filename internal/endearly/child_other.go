//go:build !linux

package endearly

import "syscall"

// Child leaves it to this program to end the child.
func Child() *syscall.SysProcAttr { return nil }
