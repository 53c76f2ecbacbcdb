package arena

import "syscall"

// Fits says whether a process has address space for an arena of size bytes, which it maps twice, once to read and once to write.
// Where the space is limited (RLIMIT_AS, `ulimit -v`) an arena may take a quarter of it: it is mapped whole, however little is used of it,
// and the space is meant for the program. Without an arena large values travel over sockets.
func Fits(size int64) bool {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_AS, &limit); err == nil && !roomFor(size, limit.Cur) {
		return false
	}
	if size <= 0 || size > maxInt/2 {
		return size == 0
	}
	probe, err := syscall.Mmap(-1, 0, int(2*size), syscall.PROT_NONE, syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE)
	if err != nil {
		return false
	}
	syscall.Munmap(probe) //nolint:errcheck // what was just mapped
	return true
}

const maxInt = int64(^uint(0) >> 1)

// roomFor says whether two mappings of size bytes are a quarter of limit at most.
func roomFor(size int64, limit uint64) bool {
	return limit > uint64(maxInt) || size <= int64(limit)/8 //nolint:gosec // compared before
}
