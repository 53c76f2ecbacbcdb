//go:build !amd64

package kernel

import "syscall"

const memfdCreate = syscall.SYS_MEMFD_CREATE
