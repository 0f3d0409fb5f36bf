package bare

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// Fsync is how many times a second 4 KiB are written and synced, one after the other.
func Fsync(dir string, lasts time.Duration) (float64, error) {
	f, err := os.CreateTemp(dir, "fsync-")
	if err != nil {
		return 0, fmt.Errorf("probe the disk: %w", err)
	}
	defer func() { _ = f.Close() }()
	block := make([]byte, 4096)
	return rate(lasts, func(i int) error {
		if _, err := f.WriteAt(block, int64(i%256)*4096); err != nil {
			return fmt.Errorf("probe the disk: %w", err)
		}
		return f.Sync()
	})
}

// rate is how often something is done in a second.
func rate(lasts time.Duration, do func(i int) error) (float64, error) {
	began, n := time.Now(), 0
	for ; time.Since(began) < lasts; n++ {
		if err := do(n); err != nil {
			return 0, err
		}
	}
	return float64(n) / time.Since(began).Seconds(), nil
}

// Loopback is how long a byte takes there and back over TCP on this machine, n times.
func Loopback(ctx context.Context, n int) (took []time.Duration, err error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	echoed := make(chan struct{})
	go func() {
		defer close(echoed)
		if c, err := l.Accept(); err == nil {
			_, _ = io.Copy(onlyWriter{c}, c)
			_ = c.Close()
		}
	}()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	if err == nil {
		took, err = pingPong(c, n)
		_ = c.Close()
	}
	_ = l.Close()
	<-echoed
	return took, err
}

// onlyWriter hides what would let the kernel copy without us, as no server does.
type onlyWriter struct{ io.Writer }

func pingPong(c io.ReadWriter, n int) ([]time.Duration, error) {
	took := make([]time.Duration, n)
	b := make([]byte, 1)
	for i := range took {
		began := time.Now()
		if _, err := c.Write(b); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(c, b); err != nil {
			return nil, err
		}
		took[i] = time.Since(began)
	}
	return took, nil
}
