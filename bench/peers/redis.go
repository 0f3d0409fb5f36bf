package main

import (
	"context"
	"net"
	"os"
)

// startRedis starts a server that appends every write to a file, and syncs it as it is
// told: "always", before it answers, or "everysec".
func startRedis(ctx context.Context, dir, fsync string) (*process, string, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, "", err
	}
	p, err := start(ctx, "redis-server", "--bind", host, "--port", port, "--dir", dir,
		"--appendonly", "yes", "--appendfsync", fsync, "--save", "")
	if err != nil {
		return nil, "", err
	}
	return p, address, p.await(ctx, func(ctx context.Context) error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}
