//go:build unix

package config_test

import (
	"syscall"
	"testing"
	"time"
)

// spent is the time on processors that this process has had: what others take of the machine is not in it.
func spent(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
