package throwaway

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// memoryDisk is where Linux mounts a file system in memory for every user.
const memoryDisk = "/dev/shm"

// memoryMin is what must be free on that file system, and of the machine's memory. All tests of this repository write less
// than a quarter of it.
const memoryMin = 4 << 30

// roomInMemory says whether there is room for a server's data.
func roomInMemory() bool {
	return roomOn(memoryDisk) >= memoryMin && memoryAvailable() >= memoryMin
}

// roomOn returns how many bytes are free on a file system in memory, and 0 for any other.
func roomOn(dir string) uint64 {
	const tmpfs = 0x01021994
	var fs syscall.Statfs_t
	if syscall.Statfs(dir, &fs) != nil || fs.Type != tmpfs {
		return 0
	}
	return fs.Bavail * uint64(fs.Bsize)
}

// memoryAvailable returns how many bytes the kernel can give to programs without swapping, and 0 if it does not tell.
func memoryAvailable() uint64 {
	file, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0
	}
	defer func() { _ = file.Close() }()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var kibibytes uint64
		if text, found := strings.CutPrefix(lines.Text(), "MemAvailable:"); found {
			_, _ = fmt.Sscan(text, &kibibytes)
			return kibibytes << 10
		}
	}
	return 0
}
