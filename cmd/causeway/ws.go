package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"

	"github.com/coder/websocket"
	"github.com/spf13/cobra"
)

func wsCommand() *cobra.Command {
	var header []string
	var origin string
	cmd := &cobra.Command{
		Use:   "ws URL [MESSAGE...]",
		Short: "Call a streaming method over WebSocket",
		Long: `Call a streaming method over WebSocket: send the messages, in JSON, and print the answers, one in a line. Without messages
the lines of standard input are sent, as they come. Behind the last one the requests are ended, and the program waits for
the end of the call. It ends with exit code 1 if the call failed.`,
		Example: `  causeway ws ws://127.0.0.1:8080/v1/rooms/lobby:talk '{"author":"ada","text":"hello"}'`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			opts := &websocket.DialOptions{HTTPHeader: map[string][]string{}, Subprotocols: []string{"causeway.json"}}
			for _, h := range header {
				name, value, ok := strings.Cut(h, ":")
				if !ok {
					return usage("want NAME: VALUE, found %q", h)
				}
				opts.HTTPHeader.Add(strings.TrimSpace(name), strings.TrimSpace(value))
			}
			if origin != "" {
				opts.HTTPHeader.Set("Origin", origin)
			}
			var messages io.Reader = strings.NewReader(strings.Join(args[1:], "\n"))
			if len(args) == 1 {
				messages = cmd.InOrStdin()
			}
			return talk(ctx, args[0], opts, messages, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringArrayVarP(&header, "header", "H", nil, "a header of the handshake, NAME: VALUE")
	cmd.Flags().StringVar(&origin, "origin", "", "the origin of the page that would open it in a browser")
	return cmd
}

// talk sends the lines of messages over a WebSocket and prints what comes back, up to the end.
func talk(ctx context.Context, url string, opts *websocket.DialOptions, messages io.Reader, out io.Writer) error {
	c, resp, err := websocket.Dial(ctx, url, opts) //nolint:bodyclose // the library closes it
	if err != nil {
		if resp != nil && resp.Body != nil {
			if body, rerr := io.ReadAll(io.LimitReader(resp.Body, 4<<10)); rerr == nil && len(body) > 0 {
				return fmt.Errorf("answered with status %d: %s", resp.StatusCode, body)
			}
		}
		return err
	}
	defer func() { _ = c.CloseNow() }() // closed already when all went well
	c.SetReadLimit(-1)
	sent := make(chan error, 1)
	go func() { sent <- sendLines(ctx, c, messages) }()
	for {
		_, m, err := c.Read(ctx)
		var end websocket.CloseError
		switch {
		case errors.As(err, &end) && end.Code == websocket.StatusNormalClosure:
			return nil
		case errors.As(err, &end):
			return fmt.Errorf("the call failed: closed with %d: %s", end.Code, end.Reason)
		case err != nil:
			select {
			case serr := <-sent:
				return errors.Join(err, serr)
			default:
				return err
			}
		}
		if _, err := fmt.Fprintf(out, "%s\n", m); err != nil {
			return err
		}
	}
}

// sendLines sends each line, and an empty message at their end.
func sendLines(ctx context.Context, c *websocket.Conn, messages io.Reader) error {
	lines := bufio.NewScanner(messages)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			continue // it would be the end
		}
		if err := c.Write(ctx, websocket.MessageText, lines.Bytes()); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return c.Write(ctx, websocket.MessageText, nil)
}
