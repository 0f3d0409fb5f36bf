// Package sql is the kind "sql": it reads from a database that the node's
// operator named, and streams the rows.
//
// Payload; source and query are needed:
//
//	{
//	  "source":   "sales",                  a name of Config.Sources
//	  "query":    "select * from t where id = $1",  one statement, which gives rows
//	  "args":     [7],                      or {"id": 7} for a query with @id
//	  "timeout":  "30s",                    for all of it; the default, at most Config.MaxTimeout
//	  "max_rows": 10000,                    the default, at most Config.MaxRows
//	  "write":    false                     may stand there; true is refused
//	}
//
// The first `output` event is {"chunk": {"columns": [{"name", "type"}, …]}}, the
// others {"chunk": {"rows": [[…], …]}}: as many as have come within a tenth of a
// second, or fit 48 KiB. The result has no rows:
//
//	{"rows": 1234, "columns": [{"name": "id", "type": "int8"}], "truncated": false, "duration": "12ms"}
//
// truncated says that there were more: than max_rows, than Config.MaxBytes, or
// than the task's log takes. docs/kinds.md says what becomes of each type.
//
// Failures:
//
//	sql_error        the database refused it; details {"sqlstate", "position"} or {"sqlite"};
//	                 may be retried if it could go well later: a deadlock, too many connections
//	sql_timeout      no complete answer in time; may be retried
//	sql_unavailable  no connection; may be retried, unless the credentials are wrong
//	row_too_large    a row that fits no event
//	invalid_payload  the payload is wrong
//
// # Reading only
//
// Several things stand in the way of a statement that writes, each enough by
// itself for most of them. PostgreSQL: the transaction is read-only and has taken
// its snapshot, after which it cannot be made another; the protocol takes one
// statement; one that would give no rows (COPY, COMMIT, SET, DO, CALL) is not run;
// and the transaction is rolled back. SQLite: the file is opened for reading, and
// whatever a statement would do beside reading is refused while it is compiled:
// authorize in sqlite3.go.
//
// Arguments go to the database apart from the statement, always.
//
// What a function of the server does elsewhere, such as dblink or pg_read_file, no
// transaction can keep it from: the role of the source should not be allowed to.
package sql
