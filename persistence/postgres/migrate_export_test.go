package postgres

import (
	"context"
	"io/fs"
	"log/slog"
)

// MigrateBy migrates as another troupe would that knows other migrations.
func MigrateBy(ctx context.Context, url string, files fs.FS, log *slog.Logger) error {
	config, err := configure(url)
	if err != nil {
		return err
	}
	return migrateBy(ctx, config.ConnConfig, files, log, true)
}
