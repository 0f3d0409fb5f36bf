package sqlite

import (
	"context"
	"errors"
	"fmt"

	driverlib "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/troupe-run/troupe/runtime/task"
)

// What [Open] may say, for errors.Is.
var (
	ErrLocked = errors.New("the data directory is in use")
	ErrSchema = errors.New("the database's schema does not fit")
)

// code is SQLite's result code in err, or 0.
func code(err error) int {
	if e, ok := errors.AsType[*driverlib.Error](err); ok {
		return e.Code()
	}
	return 0
}

// passing says whether SQLite's trouble may be over by itself: the disk is full
// or does not answer, or somebody else has the file. Nothing was kept.
func passing(err error) bool {
	switch code(err) & 0xff {
	case lib.SQLITE_FULL, lib.SQLITE_IOERR, lib.SQLITE_BUSY, lib.SQLITE_LOCKED, lib.SQLITE_CANTOPEN,
		lib.SQLITE_READONLY, lib.SQLITE_PERM, lib.SQLITE_PROTOCOL, lib.SQLITE_NOMEM, lib.SQLITE_INTERRUPT:
		return true
	}
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// translate says in the core's words what went wrong in something that left
// nothing behind.
func translate(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case passing(err):
		return fmt.Errorf("%s: %w: %w", what, task.ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// doubtful says whether a COMMIT that failed may have been kept. Without room for
// its last frame it is not in the log. With the frame there, but no word from the
// disk, whoever reads the log after a crash may find it.
func doubtful(err error) bool { return code(err)&0xff == lib.SQLITE_IOERR }
