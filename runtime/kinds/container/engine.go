package container

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// connect makes a client of the engine. It calls nobody yet.
func connect(engine string) (*client.Client, error) {
	u, err := client.ParseHostURL(engine)
	if err != nil || u.Scheme != "unix" && u.Scheme != "tcp" || u.Host == "" {
		return nil, fmt.Errorf("%q: want unix:///var/run/docker.sock or tcp://host:port", engine)
	}
	if u.Scheme == "tcp" {
		if _, _, err := net.SplitHostPort(u.Host); err != nil {
			return nil, fmt.Errorf("%q: want tcp://host:port", engine)
		}
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	return client.New(
		client.WithHost(engine),
		// The client's own transport would go through the proxy of the environment.
		client.WithHTTPClient(&http.Client{
			CheckRedirect: client.CheckRedirect,
			Transport: &http.Transport{
				DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
					if u.Scheme == "unix" {
						network, address = "unix", u.Host
					}
					return dialer.DialContext(ctx, network, address)
				},
				DisableCompression: true,
				MaxIdleConns:       16,
				IdleConnTimeout:    30 * time.Second,
			},
		}),
		client.WithUserAgent("troupe"),
	)
}

// Labels of a container, by which one knows whose it is.
const (
	labelNamespace = "troupe.namespace"
	labelTask      = "troupe.task"
	labelAttempt   = "troupe.attempt"
)

// attempt is whose container it is. Its name is made of it, so that there is one
// at most, and one that the engine made without our hearing of it can be found.
type attempt struct {
	namespace, task string
	number          int
}

func (a attempt) name() string { return "troupe-" + a.task + "-" + strconv.Itoa(a.number) }

func (a attempt) labels() map[string]string {
	return map[string]string{labelNamespace: a.namespace, labelTask: a.task, labelAttempt: strconv.Itoa(a.number)}
}

// attemptOf reads labels; false where they are not ours.
func attemptOf(labels map[string]string) (a attempt, ok bool) {
	a = attempt{namespace: labels[labelNamespace], task: labels[labelTask]}
	a.number, _ = strconv.Atoi(labels[labelAttempt])
	return a, a.namespace != "" && a.task != "" && a.number > 0
}

// options is all that the engine is told of a container. What is not here is not
// for a task to have.
func (c Config) options(s spec, a attempt) client.ContainerCreateOptions {
	processes := c.Limits.Processes
	return client.ContainerCreateOptions{
		Name: a.name(),
		Config: &container.Config{
			Image: s.image.String(), Cmd: s.command, Env: s.env, WorkingDir: s.workdir, User: s.user, Labels: a.labels(),
			AttachStdout: true, AttachStderr: true,
			Healthcheck: &container.HealthConfig{Test: []string{"NONE"}}, // nobody asks for its health
		},
		HostConfig: &container.HostConfig{
			NetworkMode:    container.NetworkMode(s.network),
			CapDrop:        []string{"ALL"},
			SecurityOpt:    []string{"no-new-privileges:true"},
			ReadonlyRootfs: true,
			Tmpfs:          map[string]string{"/tmp": fmt.Sprintf("rw,nosuid,nodev,mode=1777,size=%d", c.Limits.Temp)},
			IpcMode:        container.IPCModePrivate,
			CgroupnsMode:   container.CgroupnsModePrivate,
			RestartPolicy:  container.RestartPolicy{Name: container.RestartPolicyDisabled},
			// Far more than the task's log has room for, and so never cut while it is read.
			LogConfig: container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "1g", "max-file": "2"}},
			Resources: container.Resources{
				Memory: s.memory, MemorySwap: s.memory, NanoCPUs: int64(s.cpu) * 1e6, PidsLimit: &processes,
			},
		},
	}
}

var errGone = errors.New("the container is gone")
