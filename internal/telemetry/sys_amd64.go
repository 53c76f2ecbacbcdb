package telemetry

const sysMemfdCreate = 319 // package syscall's table for amd64 is older than the call
