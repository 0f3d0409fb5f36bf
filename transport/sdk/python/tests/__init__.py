"""The client's tests. `go test ./transport/sdk` starts the server they need."""
