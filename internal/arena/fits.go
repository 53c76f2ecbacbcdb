package arena

import "syscall"

// Fits returns true if the process has enough address space for an arena of size bytes. The process maps an arena twice,
// once to read and once to write, and always completely. If its address space is limited (RLIMIT_AS, `ulimit -v`), both
// mappings may take at most a quarter of the limit, because the space is meant for the program. For example, under a
// limit of 4 GB an arena of 1 GB does not fit. Without an arena large values travel over sockets.
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
	syscall.Munmap(probe) //nolint:errcheck // the range was mapped above
	return true
}

const maxInt = int64(^uint(0) >> 1)

// roomFor returns true if two mappings of size bytes take at most a quarter of limit.
func roomFor(size int64, limit uint64) bool {
	return limit > uint64(maxInt) || size <= int64(limit)/8 //nolint:gosec // the left side excludes an overflow
}
