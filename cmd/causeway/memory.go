package main

import (
	"math"
	"os"
	"path"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
)

// A gateway's live heap is small and its garbage short-lived, so the collector's default (run each time the heap has
// doubled) spends a tenth of the processor on keeping a few megabytes free. It is run each time the heap has grown by
// gcPercent instead; near the memory that the process may use it runs as often as it needs.
const (
	gcPercent   = 400
	memoryShare = 0.8
)

// tuneMemory sets the collector's pace where the environment (GOGC, GOMEMLIMIT) does not.
func tuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		if limit := memoryLimit(os.ReadFile); limit > 0 {
			debug.SetMemoryLimit(int64(float64(limit) * memoryShare))
		}
	}
}

// collectWithin has the collector work within a limit of the configuration; 0: there is none.
func collectWithin(limit int64) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	if limit == 0 {
		limit = memoryLimit(os.ReadFile)
	}
	if limit == 0 {
		debug.SetMemoryLimit(math.MaxInt64)
		return
	}
	debug.SetMemoryLimit(int64(float64(limit) * memoryShare))
}

// memoryLimit is how many bytes the process may use: the least of its control group's limit and the machine's memory; 0
// when neither is known.
func memoryLimit(read func(string) ([]byte, error)) int64 {
	limit := groupLimit(read)
	if raw, err := read("/proc/meminfo"); err == nil {
		for line := range strings.Lines(string(raw)) {
			f := strings.Fields(line)
			if len(f) == 3 && f[0] == "MemTotal:" {
				if kib, err := strconv.ParseInt(f[1], 10, 64); err == nil && (limit == 0 || kib<<10 < limit) {
					limit = kib << 10
				}
			}
		}
	}
	return limit
}

// Where control groups are, of both versions.
const (
	groups    = "/sys/fs/cgroup"
	oldGroups = "/sys/fs/cgroup/memory"
)

// groupLimit is the least limit of memory of the process's control group and those above it; 0: there is none.
func groupLimit(read func(string) ([]byte, error)) int64 {
	files := []string{groups + "/memory.max", oldGroups + "/memory.limit_in_bytes"} // of the group that a container is
	if raw, err := read("/proc/self/cgroup"); err == nil {
		for line := range strings.Lines(string(raw)) { // hierarchy:controllers:path
			f := strings.SplitN(strings.TrimSpace(line), ":", 3)
			if len(f) != 3 {
				continue
			}
			folder, file := groups, "memory.max"
			if slices.Contains(strings.Split(f[1], ","), "memory") {
				folder, file = oldGroups, "memory.limit_in_bytes"
			} else if f[1] != "" {
				continue
			}
			for dir := path.Clean("/" + f[2]); dir != "/"; dir = path.Dir(dir) {
				files = append(files, folder+dir+"/"+file)
			}
		}
	}
	least := int64(0)
	for _, file := range files {
		raw, err := read(file)
		if err != nil {
			continue
		}
		// Without a limit it says "max", or with the older version a number that no machine has.
		if n, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64); err == nil && n > 0 && n < 1<<60 && (least == 0 || n < least) {
			least = n
		}
	}
	return least
}
