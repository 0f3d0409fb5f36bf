package exec

import (
	"io"
	"os"
)

// pipes are the three standard streams of a command.
type pipes struct {
	theirs         []*os.File // in the order of their numbers
	stdin          *os.File   // nil if there is nothing to read
	stdout, stderr *os.File
}

func openPipes(withStdin bool) (p *pipes, err error) {
	p = &pipes{}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	var theirs *os.File
	if withStdin {
		theirs, p.stdin, err = os.Pipe()
	} else {
		theirs, err = os.Open(os.DevNull)
	}
	if err != nil {
		return p, err
	}
	p.theirs = append(p.theirs, theirs)
	for _, ours := range []**os.File{&p.stdout, &p.stderr} {
		if *ours, theirs, err = os.Pipe(); err != nil {
			return p, err
		}
		p.theirs = append(p.theirs, theirs)
	}
	return p, nil
}

// closeTheirs is called when the command has them: as long as we hold them too,
// no stream has an end.
func (p *pipes) closeTheirs() {
	for _, f := range p.theirs {
		_ = f.Close()
	}
	p.theirs = nil
}

// feed gives the command its standard input. It ends when all is read, when
// nobody reads it any more, or with close.
func (p *pipes) feed(text string) {
	_, _ = io.WriteString(p.stdin, text)
	_ = p.stdin.Close()
}

func (p *pipes) close() {
	p.closeTheirs()
	for _, f := range []*os.File{p.stdin, p.stdout, p.stderr} {
		if f != nil {
			_ = f.Close()
		}
	}
}
