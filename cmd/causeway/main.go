// Command causeway is the gateway: it runs it, and speaks to one that runs.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/causeway-gateway/causeway/proxy/config"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// version is set by the linker.
var version = "dev"

// Exit codes; `causeway --help` lists them.
const (
	exitFailure     = 1
	exitUsage       = 2
	exitConfig      = 3
	exitUnreachable = 6
	exitDenied      = 7
)

// exitError is an error with the exit code it ends the program with.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func main() {
	// A reader of standard output that has gone must cost log lines, not the gateway.
	signal.Ignore(syscall.SIGPIPE)
	tuneMemory()
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	root := rootCommand()
	root.SetArgs(args)
	err := root.ExecuteContext(context.Background())
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "causeway:", strings.TrimRight(err.Error(), "\n"))
	return exitCode(err)
}

func exitCode(err error) int {
	var e *exitError
	var faults config.Faults
	switch {
	case errors.As(err, &e):
		return e.code
	case errors.As(err, &faults):
		return exitConfig
	}
	return exitFailure
}

func usage(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "causeway",
		Short: "An edge gateway that speaks JSON over HTTP to callers and gRPC to services",
		Long: `Causeway is a gRPC-first edge gateway: it loads protobuf descriptors while it runs and serves the methods in them
as JSON over HTTP, by their google.api.http rules.

Exit codes: 0 done; 1 failure; 2 usage; 3 the configuration is invalid; 6 not reachable; 7 denied.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version,
		Args:          known,
		RunE:          needsCommand,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage("%s; see %s --help", err, cmd.CommandPath())
	})
	root.AddCommand(runCommand(), demoCommand(), validateCommand(), schemaCommand(), explainCommand(), readyCommand(), jsonSchemaCommand(), observabilityCommand(), wsCommand(), serviceCommand(), zkCommand(), versionCommand())
	strict(root)
	return root
}

// needsCommand is what a command does that only holds others.
func needsCommand(cmd *cobra.Command, _ []string) error {
	return usage("name a command: %s; see %s --help", strings.Join(commandNames(cmd), ", "), cmd.CommandPath())
}

// known refuses arguments of a command that only holds others: they are misspelt commands.
func known(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fmt.Errorf("there is no command %q%s", args[0], schema.DidYouMean(args[0], commandNames(cmd)))
}

func commandNames(cmd *cobra.Command) []string {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return names
}

// strict makes wrong arguments a usage error with its own exit code.
func strict(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usage("%s; see %s --help", err, cmd.CommandPath())
			}
			return nil
		}
	}
	for _, c := range cmd.Commands() {
		strict(c)
	}
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "causeway", version)
			return err
		},
	}
}
