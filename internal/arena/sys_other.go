//go:build !amd64

package arena

import "syscall"

const sysMemfdCreate = syscall.SYS_MEMFD_CREATE
