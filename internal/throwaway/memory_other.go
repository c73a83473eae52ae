//go:build !linux

package throwaway

// memoryDisk is empty: only Linux has a file system in memory that every user can write to.
const memoryDisk = ""

func roomInMemory() bool { return false }
