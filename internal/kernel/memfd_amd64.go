//go:build linux

package kernel

const memfdCreate = 319 // package syscall's table for amd64 is older than the call
