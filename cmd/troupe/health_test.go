package main

import (
	"net"
	"testing"
)

func TestHealthSaysByItsStatusWhetherTasksAreTaken(t *testing.T) {
	wantStatus(t, troupe(t, serveIn(t), false, "", "health"), exitOK)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := "http://" + l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, troupe(t, address, false, "", "health"), exitFailed, "no server answers")
	wantStatus(t, troupe(t, "here", false, "", "health"), exitUsage)
}
