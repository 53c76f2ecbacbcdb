//go:build !amd64

package telemetry

import "syscall"

const sysMemfdCreate = syscall.SYS_MEMFD_CREATE
