package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-gateway/causeway/proxy/admin"
)

// client speaks to the admin listener of a gateway that runs.
type client struct {
	address   string
	token     string
	tokenFile string
	timeout   time.Duration
}

func (c *client) flags(cmd *cobra.Command) {
	address := os.Getenv("CAUSEWAY_ADMIN")
	if address == "" {
		address = "127.0.0.1:8081"
	}
	cmd.PersistentFlags().StringVar(&c.address, "admin", address, "address of the gateway's admin listener (environment: CAUSEWAY_ADMIN)")
	cmd.PersistentFlags().StringVar(&c.tokenFile, "token-file", "", "file with the admin token; default: CAUSEWAY_TOKEN in the environment, then .causeway/admin.token")
	cmd.PersistentFlags().DurationVar(&c.timeout, "timeout", time.Minute, "how long the call may take")
}

func (c *client) get(ctx context.Context, path string, out any) error {
	return c.call(ctx, http.MethodGet, path, nil, out)
}

func (c *client) call(ctx context.Context, method, path string, body []byte, out any) error {
	c.address = strings.TrimSuffix(strings.TrimPrefix(c.address, "http://"), "/")
	token, err := c.findToken()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+c.address+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	transport := &http.Transport{Proxy: nil}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return unreachable(fmt.Errorf("no gateway answers at %s: %w; is it running, and is --admin its admin address?", c.address, errors.Unwrap(err)))
	}
	raw, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return unreachable(err)
	}
	if resp.StatusCode != http.StatusOK {
		return problem(resp.StatusCode, raw)
	}
	return json.Unmarshal(raw, out)
}

// problem makes an error of a refused call.
func problem(status int, raw []byte) error {
	var p admin.Problem
	if err := json.Unmarshal(raw, &p); err != nil || p.Message == "" {
		p.Message = fmt.Sprintf("the admin listener answered %d: %s", status, raw)
	}
	code := exitFailure
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		code = exitDenied
	case http.StatusUnprocessableEntity:
		code = exitConfig
	}
	return &exitError{code, errors.New(p.Message)}
}

// readyCommand is for probes that run a command where the gateway runs, since its admin listener is on loopback.
func readyCommand() *cobra.Command {
	var c client
	cmd := &cobra.Command{
		Use:   "ready",
		Short: "Tell by the exit code whether the gateway that runs here takes calls: a probe",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), c.timeout)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+strings.TrimPrefix(c.address, "http://")+"/readyz", nil)
			if err != nil {
				return err
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return unreachable(err)
			}
			if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
				return errors.Join(fmt.Errorf("not ready: readyz answered %d", resp.StatusCode), err)
			}
			return nil
		},
	}
	c.flags(cmd)
	return cmd
}

func (c *client) findToken() (string, error) {
	if c.token != "" {
		return c.token, nil
	}
	file := c.tokenFile
	if file == "" {
		if t := os.Getenv("CAUSEWAY_TOKEN"); t != "" {
			return t, nil
		}
		file = filepath.Join(".causeway", tokenFile)
	}
	raw, err := os.ReadFile(file) //nolint:gosec // the user names the file
	if err != nil {
		if c.tokenFile == "" && errors.Is(err, os.ErrNotExist) {
			return "", &exitError{exitDenied, errors.New("want the admin token: give --token-file, set CAUSEWAY_TOKEN (`run --upstream` prints the token), or run this where .causeway/admin.token is (`run -c` keeps it there)")}
		}
		return "", err
	}
	return strings.TrimSpace(string(raw)), nil
}
