package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/causeway-gateway/causeway/proxy"
	"github.com/causeway-gateway/causeway/proxy/config"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
)

func explainCommand() *cobra.Command {
	var file string
	var headers []string
	var asJSON bool
	var c client
	cmd := &cobra.Command{
		Use:   "explain METHOD URL",
		Short: "Say which route takes a request, what it binds, and why the others do not",
		Long: `Say which route takes a request, what of it is bound to which field, what plugins it passes and where it goes; and
why the other routes do not take it. Nothing is sent.

METHOD is a verb of HTTP, or the protocol of a listener that speaks another; the URL is then what the method is called by there.

With -c the configuration file is asked, else the gateway that runs.`,
		Example: "  causeway explain GET '/v1/orders/7?customer=ada' -c causeway.yaml\n  causeway explain tars Shop.OrderServer.OrderObj/GetOrder -c causeway.yaml",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := proxy.Question{Method: args[0], URL: args[1], Headers: headers}
			var e proxy.Explanation
			if file != "" {
				snap, release, err := checkConfig(cmd.Context(), file)
				if err != nil {
					return err
				}
				defer release()
				e = snap.Explain(q)
			} else {
				v := url.Values{"method": {q.Method}, "url": {q.URL}, "header": q.Headers}
				if err := c.get(cmd.Context(), "/api/v1/explain?"+v.Encode(), &e); err != nil {
					return err
				}
			}
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				if err := enc.Encode(e); err != nil {
					return err
				}
			} else if _, err := io.WriteString(cmd.OutOrStdout(), explanation(e)); err != nil {
				return err
			}
			if e.Taken == nil {
				return &exitError{exitFailure, fmt.Errorf("no route takes it: %s", e.Fault)}
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file, or folder of fragments; without it the running gateway is asked")
	cmd.Flags().StringArrayVarP(&headers, "header", "H", nil, "request header, `Name: value`; may be repeated")
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")
	c.flags(cmd)
	return cmd
}

// explanation writes an explanation for a person.
func explanation(e proxy.Explanation) string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(&b, "%s %s", e.Method, e.Path)
	if e.Host != "" {
		fmt.Fprintf(&b, " on host %s", e.Host)
	}
	b.WriteByte('\n')
	if t := e.Taken; t != nil {
		line("taken by", "%s", t.Route)
		line("rule", "%s", t.Rule)
		line("calls", "%s (%s)", t.RPC, t.Kind)
		for _, c := range t.Conditions {
			line("because", "%s", c)
		}
		for _, p := range t.Bound {
			line("binds", "%s = %q from the %s", p.Field, p.Value, p.From)
		}
		line("body", "%s", t.Body)
		if t.Response != "" {
			line("answer", "%s alone", t.Response)
		}
		line("chain", "%s", strings.Join(append(append([]string{}, t.Plugins...), "forward"), " -> "))
		line("timeout", "%s", t.Timeout)
		line("service", "%s at %s, described by schema %s", t.Service, strings.Join(t.Instances, ", "), t.Schema)
		for _, a := range t.Also {
			if a.Why != "" {
				line("over "+a.Protocol, "not served: %s", a.Why)
			} else {
				line("over "+a.Protocol, "%s", strings.Join(a.Names, ", "))
			}
			if a.Refused != "" {
				line("", "refused there by %s", a.Refused)
			}
		}
		if t.Fault != "" {
			line("refused", "%s", t.Fault)
		}
	}
	if len(e.Others) > 0 {
		b.WriteString("not taken by\n")
	}
	for _, o := range e.Others {
		fmt.Fprintf(&b, "  %s of %s: %s\n", o.Rule, o.Route, o.Why)
	}
	if e.More > 0 {
		fmt.Fprintf(&b, "  and %d more\n", e.More)
	}
	return b.String()
}

// offline are the options of a gateway that only checks.
func offline(std *proxy.Standard, load func() (*config.Document, error)) (proxy.Options, error) {
	meter, err := telemetry.NewMeter()
	if err != nil {
		return proxy.Options{}, err
	}
	sinks, err := telemetry.NewOfflineSinks(meter)
	if err != nil {
		return proxy.Options{}, err
	}
	return proxy.Options{Standard: std, Load: load, Meter: meter, Sinks: sinks, Log: slog.New(slog.DiscardHandler)}, nil
}
