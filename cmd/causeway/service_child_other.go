//go:build !unix

package main

import (
	"fmt"
	"os"
	"os/exec"
)

func apart(*exec.Cmd) {}

func forwarded() []os.Signal { return nil }

func resetSignals() []os.Signal { return nil }

func exitOf(s *os.ProcessState) (code int, how string) {
	return s.ExitCode(), fmt.Sprintf("with exit code %d", s.ExitCode())
}
