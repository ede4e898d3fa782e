package main

import (
	"github.com/spf13/cobra"

	_ "embed"
)

// What operators watch a gateway with.
var (
	//go:embed observability/dashboard.json
	dashboard []byte
	//go:embed observability/alerts.yaml
	alerts []byte
	//go:embed observability/RUNBOOKS.md
	runbooks []byte
)

func observabilityCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "observability",
		Short: "Print a Grafana dashboard, Prometheus rules, and what to do about their alerts",
		Args:  known,
		RunE:  needsCommand,
	}
	for _, a := range []struct {
		name, short, example string
		text                 []byte
	}{
		{"dashboard", "Print a dashboard for Grafana", "  causeway observability dashboard > causeway-dashboard.json", dashboard},
		{"alerts", "Print recording and alerting rules for Prometheus", "  causeway observability alerts > causeway-alerts.yaml", alerts},
		{"runbooks", "Print what to do about each alert, as Markdown", "  causeway observability runbooks > RUNBOOKS.md", runbooks},
	} {
		cmd.AddCommand(&cobra.Command{
			Use: a.name, Short: a.short, Example: a.example, Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				_, err := cmd.OutOrStdout().Write(a.text)
				return err
			},
		})
	}
	return cmd
}
