package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// A time that something took reads the same in either form of the log, in groups too.
func TestLogsHaveDurationsAsText(t *testing.T) {
	for format, want := range map[string][]string{
		"json": {`"after":"1.5s"`, `"at":{"most":"1m0s"}`},
		"text": {`after=1.5s`, `at.most=1m0s`},
	} {
		var out bytes.Buffer
		log, err := newLogger(&out, format)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("tried again", "after", 1500*time.Millisecond, slog.Group("at", "most", time.Minute))
		for _, w := range want {
			if !strings.Contains(out.String(), w) {
				t.Errorf("%s: want %s in it, found %s", format, w, out.String())
			}
		}
	}
}
