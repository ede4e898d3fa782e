package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
)

// child is the program that `service register -- COMMAND` runs.
type child struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended
}

// exitNotFound is how shells say that there is no such program.
const exitNotFound = 127

// startChild starts a program with this one's standard streams.
func startChild(program []string) (*child, error) {
	path, err := exec.LookPath(program[0])
	if err != nil {
		return nil, &exitError{exitNotFound, fmt.Errorf("want a program behind --: %w", err)}
	}
	cmd := exec.Command(path, program[1:]...) //nolint:gosec,noctx // the user names it, and signals end it
	cmd.Args[0] = program[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	apart(cmd)
	// A signal that this process ignores would be ignored by the program, too; one that it takes is not.
	taken := make(chan os.Signal, 1)
	signal.Notify(taken, resetSignals()...)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s cannot be started: %w", program[0], err)
	}
	c := &child{cmd: cmd, ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		_ = cmd.Wait() // the state says how it went
	}()
	return c, nil
}

// tell sends it a signal; one that has ended hears nothing.
func (c *child) tell(s os.Signal) { _ = c.cmd.Process.Signal(s) }

// result is how the program ended, which is how this one ends: its exit code, or 128 and the signal that ended it. It must
// have ended.
func (c *child) result() error {
	code, how := exitOf(c.cmd.ProcessState)
	if code == 0 {
		return nil
	}
	return &exitError{code, errors.New(c.cmd.Args[0] + " ended " + how)}
}
