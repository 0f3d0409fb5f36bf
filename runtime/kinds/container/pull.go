package container

import (
	"context"
	"fmt"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/client"
)

// provide has the engine have an image.
func (k *Kind) provide(ctx context.Context, j job, i image) error {
	if k.config.Pull != PullAlways {
		_, err := k.engine.ImageInspect(ctx, i.String())
		switch {
		case err == nil:
			return nil
		case !cerrdefs.IsNotFound(err):
			return refused("find the image of", err)
		case k.config.Pull == PullNever:
			return failure("image_not_found", false, nil, "the engine does not have the image %s", i)
		}
	}
	if err := j.Progress(-1, "pulling "+i.String()); err != nil {
		return err
	}
	pull, err := k.engine.ImagePull(ctx, i.String(), client.ImagePullOptions{})
	if err != nil {
		return notPulled(i, err)
	}
	p := pulling{job: j, message: "pulling " + i.String(), layers: map[string]layer{}, said: -1}
	for message, err := range pull.JSONMessages(ctx) {
		switch {
		case err != nil:
			return notPulled(i, err)
		case message.Error != nil:
			return failure("image_pull_failed", true, nil, "the image %s: %s", i, reason(message.Error))
		}
		if err := p.hear(message); err != nil {
			return err
		}
	}
	// A stream that broke between two messages looks like one that ended well.
	if _, err := k.engine.ImageInspect(ctx, i.String()); err != nil {
		return failure("image_pull_failed", true, nil, "the image %s is not there after it was pulled", i)
	}
	return nil
}

// notPulled is why an image could not be had. The registry answers alike for what
// is not there and for what is not for us.
func notPulled(i image, err error) error {
	if cerrdefs.IsNotFound(err) || cerrdefs.IsUnauthorized(err) || cerrdefs.IsPermissionDenied(err) {
		return failure("image_not_found", false, nil, "the image %s: %s", i, reason(err))
	}
	return failure("image_pull_failed", true, nil, "the image %s did not come", i)
}

// pulling is how far the layers of an image have come.
type pulling struct {
	job     job
	message string
	layers  map[string]layer
	said    int // percent
}

type layer struct{ current, total int64 }

func (p *pulling) hear(m jsonstream.Message) error {
	l, known := p.layers[m.ID]
	switch {
	case m.Status == "Downloading" && m.Progress != nil && m.Progress.Total > 0:
		l = layer{min(m.Progress.Current, m.Progress.Total), m.Progress.Total}
	case known && (m.Status == "Download complete" || m.Status == "Pull complete"):
		l.current = l.total
	default:
		return nil
	}
	p.layers[m.ID] = l
	var all layer
	for _, l := range p.layers {
		all.current += l.current
		all.total += l.total
	}
	// Layers that are heard of late make the whole larger: no step back is said.
	percent := int(float64(all.current) / float64(all.total) * 100)
	if percent <= p.said {
		return nil
	}
	p.said = percent
	if err := p.job.Progress(float64(percent)/100, p.message); err != nil {
		return fmt.Errorf("say how far the image has come: %w", err)
	}
	return nil
}
