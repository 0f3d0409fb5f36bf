// Package demo is six kinds for trying and testing, that touch nothing outside
// of the process.
//
//	kind         payload (defaults)                              result
//	demo.echo    anything                                        the payload, its numbers as they were written
//	demo.sleep   {"duration":"1s","steps":10}                    {"slept":"1s"}; a progress event each step
//	demo.stream  {"chunks":100,"interval":"10ms","size":64}      {"chunks":100}; an output event {"chunk":{"i":N,"data":"…"}} each, N from 0
//	demo.flaky   {"failures":1}                                  {"attempts":2}; attempts up to failures end with code "flaky"
//	demo.panic   {"message":"…"}                                 none
//	demo.steps   {"steps":3,"duration":"0s","sleep":"0s",        {"ran_in":[1,1,2],"signal":…}; the attempt that ran each step
//	             "wait_for":"","timeout":""}
//
// Steps and chunks fall due at moments counted from the start of the attempt:
// one that comes late does not push the later ones back. A payload with an
// unknown field or with a value out of bounds fails with code
// "invalid_payload", without a retry. No attempt continues an earlier one, but for
// demo.steps: it sleeps behind each step and waits for a signal at the end, where
// it is told to.
package demo
