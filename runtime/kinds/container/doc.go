// Package container is the kind "container": it runs an image on a Docker engine.
//
// Payload; only image is needed:
//
//	{
//	  "image":   "ghcr.io/acme/report:1.4",   one that Config.Images allows
//	  "command": ["report", "--all"],         arguments of the image's entrypoint; default: the image's own
//	  "env":     {"TZ": "UTC"},
//	  "workdir": "/data",                     absolute; default: the image's own
//	  "user":    "1000:1000",                 default: the image's own
//	  "memory":  "512Mi",                     at most Config.Limits.Memory; no swap besides
//	  "cpu":     1,                           at most Config.Limits.CPU
//	  "network": "none",                      or "bridge", if Config.Bridge is set
//	  "timeout": "10m"                        of the attempt, pulling the image included; default: the task's
//	}
//
// Standard output becomes `output` events {"text": line}, standard error `log`
// events: see package lines. While an image is pulled there are `progress` events.
//
// Result of a container that ends with status 0:
//
//	{"exit_status": 0, "duration": "1.234s"}
//
// and "truncated": true when the task's log had no room for all of its output, or
// the engine did not give all of it. Failures:
//
//	exit_status        ended with another status, {"exit_status": 1}; may be retried
//	out_of_memory      needed more than its memory, {"exit_status": 137}; may be retried
//	image_not_allowed  Config.Images does not have it
//	image_not_found    the engine does not have it, nor may or can it be pulled
//	image_pull_failed  the registry did not give all of it; may be retried
//	container_failed   the engine refuses to run it, and says why
//	container_lost     it is gone, and nobody knows how it ended; may be retried
//	engine_failed      the engine is away or in trouble; may be retried
//	timeout            the payload's timeout passed; may be retried
//	invalid_payload    the payload is wrong
//
// # What a container may do
//
// It is never privileged. It has no capabilities and gets no new ones by setuid
// programs, a root file system that it cannot write to and an empty /tmp in
// memory, so many processes, so much memory and processor time, no swap, no
// devices, no directories of the host, none of the host's namespaces and, unless
// both operator and task say so, no network. None of that is for the task to say.
//
// # What an attempt leaves behind
//
// Nothing. When the attempt is cancelled or times out the container gets SIGTERM,
// and SIGKILL after [Config].Grace; when it has ended, however it has, it is
// removed with its volumes. What a dead node left is removed by the next attempt
// of its task, and by [Kind.Run]: containers have labels with namespace, task and
// attempt, and one whose attempt is over has nobody to wait for it. A container of
// a task that this node's store does not know is another's, and left alone.
//
// # When the engine goes away
//
// A container outlives its engine where that is configured (live-restore), so a
// connection that breaks says nothing of it. The attempt asks again for a minute.
// What it has heard of the output it does not hear again: it counts the bytes of
// each stream, and the engine's log starts from the beginning.
package container
