package main

import (
	"os"
	"testing"
)

func TestMemoryLimit(t *testing.T) {
	const meminfo = "MemTotal:       1000 kB\nMemFree:        500 kB\n"
	for _, tc := range []struct {
		name  string
		files map[string]string
		want  int64
	}{
		{"nothing is known", nil, 0},
		{"the machine's", map[string]string{"/proc/meminfo": meminfo}, 1000 << 10},
		{"no limit in the group", map[string]string{"/proc/meminfo": meminfo, "/sys/fs/cgroup/memory.max": "max\n"}, 1000 << 10},
		{"the group's", map[string]string{"/proc/meminfo": meminfo, "/sys/fs/cgroup/memory.max": "4096\n"}, 4096},
		{"the older group's", map[string]string{"/proc/meminfo": meminfo, "/sys/fs/cgroup/memory/memory.limit_in_bytes": "8192\n"}, 8192},
		{"an older group without limit", map[string]string{"/proc/meminfo": meminfo, "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 1000 << 10},
		{"the group above", map[string]string{"/proc/self/cgroup": "0::/a.slice/b.service\n", "/sys/fs/cgroup/a.slice/memory.max": "4096\n", "/sys/fs/cgroup/a.slice/b.service/memory.max": "max\n"}, 4096},
		{"the older group above", map[string]string{"/proc/self/cgroup": "5:cpu:/x\n4:hugetlb,memory:/a/b\nnonsense\n", "/sys/fs/cgroup/memory/a/memory.limit_in_bytes": "8192\n", "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": "4096\n"}, 4096},
		{"a path that leads out", map[string]string{"/proc/self/cgroup": "0::/../../etc\n", "/sys/fs/cgroup/etc/memory.max": "4096\n"}, 4096},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := memoryLimit(func(name string) ([]byte, error) {
				if s, ok := tc.files[name]; ok {
					return []byte(s), nil
				}
				return nil, os.ErrNotExist
			})
			if got != tc.want {
				t.Errorf("want %d, found %d", tc.want, got)
			}
		})
	}
}
