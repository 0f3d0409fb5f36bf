module github.com/troupe-run/troupe/bench/croncheck

go 1.26.0

require (
	github.com/adhocore/gronx v1.20.4
	github.com/robfig/cron/v3 v3.0.1
	github.com/troupe-run/troupe v0.0.0
)

require github.com/netresearch/go-cron v0.9.1 // indirect

replace github.com/troupe-run/troupe => ../..
