package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/causeway-gateway/causeway/registry"
)

// appendBeat writes the data of a beat's node: the load with three digits after the point, nothing when it is not stated.
func appendBeat(dst []byte, load float64) []byte {
	if math.IsNaN(load) || load < 0 {
		return dst
	}
	return strconv.AppendFloat(dst, min(load, 1000), 'f', 3, 64)
}

// parseBeat reads it; the load is -1 when it is not stated.
func parseBeat(data []byte) (float64, error) {
	if len(data) == 0 {
		return -1, nil
	}
	if len(data) > 16 || strings.Trim(string(data), "0123456789.") != "" {
		return -1, fmt.Errorf("zookeeper: want a beat as a decimal number, found %.32q", data)
	}
	load, err := strconv.ParseFloat(string(data), 64)
	if err != nil {
		return -1, fmt.Errorf("zookeeper: want a beat as a decimal number, found %q", data)
	}
	return load, nil
}

// seen is a beat on its way to the sink.
type seen struct {
	id   string
	beat registry.Beat
}

type beatVersion struct {
	czxid   int64
	version int32
}

// beatReader reads the beats of one service, once per interval. Nothing is watched: at 5,000 instances and 10 s it reads 500
// nodes a second, spread over the interval, where watches would cost an event and a read for every beat.
type beatReader struct {
	c        *Conn
	at       string
	every    time.Duration
	out      chan<- seen
	versions map[string]beatVersion
}

func (b *beatReader) run(ctx context.Context) {
	for {
		pause(ctx, jitter(b.every))
		if ctx.Err() != nil {
			return
		}
		if err := b.read(ctx); err != nil && !lost(err) && ctx.Err() == nil {
			b.c.cfg.Log.Warn("zookeeper: beats not read", "node", b.at, "error", err)
		}
	}
}

// read reads every beat once, spread over half of the interval.
func (b *beatReader) read(ctx context.Context) error {
	s, _ := b.c.now()
	if !s.connected {
		return errLost
	}
	names, err := do(ctx, b.c, s.generation, func(z *zk.Conn) ([]string, error) { names, _, err := z.Children(b.at); return names, err })
	if errors.Is(err, zk.ErrNoNode) {
		names, err = nil, nil
	}
	if err != nil {
		return err
	}
	there := make(map[string]beatVersion, len(names))
	began := time.Now()
	for i, name := range names {
		due := began.Add(time.Duration(int64(b.every) / 2 * int64(i) / int64(len(names))))
		if ahead := time.Until(due); ahead > 5*time.Millisecond { // a timer for each would cost more than the read
			pause(ctx, ahead)
		}
		now, err := do(ctx, b.c, s.generation, func(z *zk.Conn) (found, error) {
			data, stat, err := z.Get(b.at + "/" + name)
			return found{data, stat}, err
		})
		if errors.Is(err, zk.ErrNoNode) || errors.Is(err, zk.ErrNoAuth) {
			continue
		}
		if err != nil {
			return err
		}
		version := beatVersion{now.stat.Czxid, now.stat.Version}
		there[name] = version
		load, err := parseBeat(now.data)
		if err != nil || b.versions[name] == version {
			continue
		}
		select {
		case b.out <- seen{name, registry.Beat{At: time.Now(), Load: load}}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	b.versions = there
	return nil
}
