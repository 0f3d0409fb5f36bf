package main

import "testing"

func TestHealthSaysByItsStatusWhetherTasksAreTaken(t *testing.T) {
	t.Parallel()
	wantStatus(t, troupe(t, serveIn(t), false, "", "health"), exitOK)
	wantStatus(t, troupe(t, "http://"+ownAddress(t), false, "", "health"), exitFailed, "no server answers")
	wantStatus(t, troupe(t, "here", false, "", "health"), exitUsage)
}
