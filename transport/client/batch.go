package client

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"syscall"

	"github.com/troupe-run/troupe/transport"
)

// maxAnswer bounds one line of an answer.
const maxAnswer = 1 << 20

// Of a batch so much goes in one request. Some proxies do not pass a body on any
// further once the answer to it has begun, so a request is no longer than fits into
// their buffers.
const (
	partLines = 10_000
	partBytes = 1 << 20
)

// Batch streams lines, one task as JSON each, and calls each with every answer
// as it comes: its task is on disk then. It returns the server's summary. A long
// batch goes in several requests, one after the other, and is one batch all the
// same.
func (c *Client) Batch(ctx context.Context, lines io.Reader, each func(transport.BatchLine)) (transport.BatchSummary, error) {
	var all transport.BatchSummary
	in := bufio.NewReader(lines)
	for before := 0; ; {
		part := &batchPart{in: in, closed: make(chan struct{})}
		sum, err := c.batchPart(ctx, all.BatchID, part, func(l transport.BatchLine) {
			l.Line += before
			each(l)
		})
		all.BatchID, all.Error = cmp.Or(sum.BatchID, all.BatchID), sum.Error
		all.Accepted, all.Refused = all.Accepted+sum.Accepted, all.Refused+sum.Refused
		if err != nil || sum.Error != nil {
			return all, err
		}
		<-part.closed
		if part.ended {
			return all, nil
		}
		if _, err := in.Peek(1); errors.Is(err, io.EOF) { // the last part was just full
			return all, nil
		}
		before += part.lines
	}
}

// batchPart reads as many whole lines as go in one request.
type batchPart struct {
	in     *bufio.Reader
	lines  int // begun
	bytes  int
	inside bool // a line that has begun has not ended
	ended  bool // there are no more
	closed chan struct{}
}

// Close implements [io.Closer]: nobody reads any more.
func (p *batchPart) Close() error {
	close(p.closed)
	return nil
}

// Read implements [io.Reader].
func (p *batchPart) Read(b []byte) (int, error) {
	if !p.inside && (p.lines >= partLines || p.bytes >= partBytes) {
		return 0, io.EOF
	}
	if _, err := p.in.Peek(1); err != nil {
		p.ended = true
		return 0, err
	}
	ready, _ := p.in.Peek(min(len(b), p.in.Buffered()))
	n, end := len(ready), bytes.IndexByte(ready, '\n')
	if !p.inside {
		p.lines++
	}
	if p.inside = end < 0; end >= 0 {
		n = end + 1
	}
	copy(b, ready[:n])
	p.bytes += n
	_, err := p.in.Discard(n)
	return n, err
}

// batchPart sends one request of a batch.
func (c *Client) batchPart(ctx context.Context, batch string, lines io.ReadCloser, each func(transport.BatchLine)) (transport.BatchSummary, error) {
	var summary transport.BatchSummary
	path := "/v1/batches"
	if batch != "" {
		path += "?batch_id=" + url.QueryEscape(batch)
	}
	req, err := c.request(ctx, http.MethodPost, path, lines)
	if err != nil {
		return summary, err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	resp, err := c.send(req)
	if err != nil {
		return summary, err
	}
	defer resp.Body.Close()
	scanner := bufio.NewScanner(resp.Body)
	scanner.Buffer(nil, maxAnswer)
	ended := false
	for scanner.Scan() {
		// A line about one task has its number; the last has the count; the first
		// only the batch's id.
		var l struct {
			transport.BatchLine
			BatchID  string `json:"batch_id"`
			Accepted *int   `json:"accepted"`
		}
		if err := json.Unmarshal(scanner.Bytes(), &l); err != nil {
			return summary, fmt.Errorf("read an answer of the batch: %w", err)
		}
		switch {
		case l.Accepted != nil:
			if err := json.Unmarshal(scanner.Bytes(), &summary); err != nil {
				return summary, fmt.Errorf("read the summary of the batch: %w", err)
			}
			ended = true
		case l.BatchID != "":
			summary.BatchID = l.BatchID
		default:
			each(l.BatchLine)
		}
	}
	switch err := scanner.Err(); {
	case err != nil:
		return summary, fmt.Errorf("read the answers of batch %s: %w: %w", summary.BatchID, ErrUnreachable, err)
	case !ended:
		return summary, fmt.Errorf("the answers of batch %s end early: %w", summary.BatchID, ErrUnreachable)
	}
	return summary, nil
}

// refusedDial says that nobody listened at all, so that nothing was sent.
func refusedDial(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial" || errors.Is(err, syscall.ECONNREFUSED)
}
