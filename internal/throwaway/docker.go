package throwaway

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	dockerImage   = "postgres:17-alpine"
	dockerStepMax = 60 * time.Second // for any docker command but the one that may have to pull the image
)

// container is a server of our own that runs in Docker. Its data is in the container's anonymous volume and goes with
// it; the scratch directory is there for its lock, so that a container whose owner was killed gets swept.
type container struct {
	name    string
	port    int
	scratch *scratch
}

// dockerAnswers says whether there is a Docker that can run containers.
func dockerAnswers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askMax)
	defer cancel()
	return docker(ctx, "info", "--format", "{{.ServerVersion}}") // short, and fails without a server
}

func startContainer(ctx context.Context, o launchOptions, say logf) (_ *Server, err error) {
	say("starting a throwaway Postgres with Docker (%s, pulled if it isn't there yet)", dockerImage)
	c := &container{}
	defer func() {
		if err != nil {
			err = fmt.Errorf("throwaway: starting %s with Docker: %w", dockerImage, errors.Join(err, c.stop()))
		}
	}()
	if c.scratch, err = newScratch(scratchBases(false), nil); err != nil {
		return nil, err
	}
	c.name = filepath.Base(c.scratch.dir)
	if err = os.WriteFile(filepath.Join(c.scratch.dir, containerName), []byte(c.name), 0o600); err != nil {
		return nil, err
	}
	// A port of our choice, because Docker would choose a new one when the container restarts.
	if c.port, err = freePort(); err != nil {
		return nil, err
	}
	if err = docker(ctx, runArgs(c.name, c.port, o)...); err != nil {
		return nil, err
	}
	version, err := c.waitReady(ctx)
	if err != nil {
		return nil, err
	}
	return &Server{url: loopbackURL(c.port), version: version, owned: true, engine: c}, nil
}

// runArgs doesn't ask for --rm: the container has to be there after a crash.
func runArgs(name string, port int, o launchOptions) []string {
	args := []string{
		"run", "--detach", "--name", name,
		"--publish", fmt.Sprintf("127.0.0.1:%d:5432", port),
		"--env", "POSTGRES_HOST_AUTH_METHOD=trust",
	}
	for _, variable := range o.env {
		args = append(args, "--env", variable)
	}
	return append(append(args, dockerImage), o.settings...)
}

func (c *container) waitReady(ctx context.Context) (version string, err error) {
	version, err = waitReady(ctx, loopbackURL(c.port), "", c.alive)
	if err == nil {
		return version, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dockerStepMax)
	defer cancel()
	log, _ := exec.CommandContext(ctx, "docker", "logs", c.name).CombinedOutput()
	return "", fmt.Errorf("%w; the container's log ends with:\n%s", err, lastLines(string(log)))
}

func (c *container) alive(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "docker", "inspect", "--format", "{{.State.Running}}", c.name).Output()
	if err == nil && strings.TrimSpace(string(out)) == "false" {
		return errEnded
	}
	return nil // no answer from Docker is no news of the server
}

// crash sends SIGQUIT to the container's first process, which is the server: an immediate shutdown.
func (c *container) crash() error {
	ctx, cancel := context.WithTimeout(context.Background(), dockerStepMax)
	defer cancel()
	if err := docker(ctx, "kill", "--signal", "QUIT", c.name); err != nil {
		return err
	}
	return docker(ctx, "wait", c.name)
}

func (c *container) restart(ctx context.Context) error {
	if err := docker(ctx, "restart", c.name); err != nil {
		return err
	}
	_, err := c.waitReady(ctx)
	return err
}

func (c *container) stop() error {
	if c.scratch == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), dockerStepMax)
	defer cancel()
	if c.name != "" {
		if err := removeContainer(ctx, c.name); err != nil {
			return err // and the scratch directory stays, for a later sweep to try again
		}
	}
	return c.scratch.remove()
}

// removeContainer ends the container and removes it with its data. One that isn't there is no error for Docker.
func removeContainer(ctx context.Context, name string) error {
	return docker(ctx, "rm", "--force", "--volumes", name)
}

func docker(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.WaitDelay = time.Second
	_, err := runToEnd(ctx, cmd)
	return err
}
