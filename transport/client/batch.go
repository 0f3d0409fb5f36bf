package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"

	"github.com/troupe-run/troupe/transport"
)

// maxAnswer bounds one line of an answer.
const maxAnswer = 1 << 20

// Batch streams lines, one task as JSON each, and calls each with every answer
// as it comes: its task is on disk then. It returns the server's summary.
func (c *Client) Batch(ctx context.Context, lines io.Reader, each func(transport.BatchLine)) (transport.BatchSummary, error) {
	var summary transport.BatchSummary
	req, err := c.request(ctx, http.MethodPost, "/v1/batches", io.NopCloser(lines))
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
