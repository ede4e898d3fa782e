package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// findNginx is the path of nginx, empty when it is not installed.
func findNginx() string {
	for _, name := range []string{"nginx", "/usr/sbin/nginx"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// nginxVersion is what nginx says of itself, empty when it is not installed.
func nginxVersion() string {
	path := findNginx()
	if path == "" {
		return ""
	}
	out, err := exec.Command(path, "-v").CombinedOutput() //nolint:gosec,noctx // found in the path; it only prints
	if err != nil {
		return ""
	}
	return strings.TrimPrefix(strings.TrimSpace(string(out)), "nginx version: ")
}

// startNginx starts Debian's nginx as one process that serves (master_process off, so that it ends with the bench however
// that ends), without a log and with its connections to the upstream kept: proxy_pass to an HTTP/1.1 server that answers
// at once for REST, grpc_pass to the backend for gRPC.
func startNginx(ctx context.Context, s *stage) (*process, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	var (
		upstream = s.backend
		listen   = "listen " + address + " http2;"
		pass     = "grpc_pass grpc://upstream;"
		helpers  []*process
	)
	if s.entrant.call.protocol != speaksGRPC {
		if upstream, err = startRole("HTTP/1.1 backend", 0, roleFloor, "-scenario", s.scenario.name); err != nil {
			return nil, err
		}
		helpers = append(helpers, upstream)
		listen = "listen " + address + ";"
		pass = `proxy_pass http://upstream; proxy_http_version 1.1; proxy_set_header Connection "";`
	}
	dir := filepath.Join(s.dir, "nginx")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	conf := fmt.Sprintf(`daemon off;
master_process off;
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
events { worker_connections 4096; }
http {
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  keepalive_time 10h;
  upstream upstream {
    server %s;
    keepalive 256;
    keepalive_requests 1000000000;
    keepalive_time 10h;
    keepalive_timeout 1h;
  }
  server {
    %s
    location / { %s }
  }
}
`, upstream.address, listen, pass)
	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	p, out, err := start(nginxName, 0, findNginx(), "-p", dir, "-e", "stderr", "-c", path)
	if err != nil {
		for _, h := range helpers {
			h.stop()
		}
		return nil, err
	}
	p.address, p.helpers = address, helpers
	go func() { _, _ = io.Copy(p.errors, out) }()
	return p, nil
}
