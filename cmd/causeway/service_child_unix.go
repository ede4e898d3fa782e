//go:build unix

package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// apart keeps a terminal's Ctrl-C from the program: it is told to end when gateways have been told.
func apart(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// forwarded are the signals that are the program's alone.
func forwarded() []os.Signal {
	return []os.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGQUIT, syscall.SIGWINCH, syscall.SIGCONT}
}

func resetSignals() []os.Signal { return []os.Signal{syscall.SIGPIPE} }

func exitOf(s *os.ProcessState) (code int, how string) {
	if w, is := s.Sys().(syscall.WaitStatus); is && w.Signaled() {
		return 128 + int(w.Signal()), "by the signal " + w.Signal().String()
	}
	return s.ExitCode(), fmt.Sprintf("with exit code %d", s.ExitCode())
}
