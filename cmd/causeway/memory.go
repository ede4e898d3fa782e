package main

import (
	"math"
	"os"
	"runtime/debug"
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

// memoryLimit is how many bytes the process may use: the least of its control group's limit and the machine's memory; 0
// when neither is known.
func memoryLimit(read func(string) ([]byte, error)) int64 {
	limit := int64(math.MaxInt64)
	for _, file := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		if raw, err := read(file); err == nil {
			if n, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64); err == nil && n > 0 {
				limit = min(limit, n)
			}
		}
	}
	if raw, err := read("/proc/meminfo"); err == nil {
		for line := range strings.Lines(string(raw)) {
			f := strings.Fields(line)
			if len(f) == 3 && f[0] == "MemTotal:" {
				if kib, err := strconv.ParseInt(f[1], 10, 64); err == nil {
					limit = min(limit, kib<<10)
				}
			}
		}
	}
	if limit == math.MaxInt64 {
		return 0
	}
	return limit
}
