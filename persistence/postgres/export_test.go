package postgres

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/troupe-run/troupe/runtime/task"
)

// WhileLocked runs f while a task's row is locked.
func (s *Store) WhileLocked(ctx context.Context, id task.ID, f func()) {
	_ = s.write(ctx, "lock", func(within context.Context, t *tx) error {
		if err := t.exec(within, "SELECT FROM troupe.tasks WHERE id = $1 FOR UPDATE", uuid(id)); err != nil {
			return err
		}
		f()
		return nil
	})
}

// KeptPlans explains the statements whose plans are kept, as they are planned now.
func (s *Store) KeptPlans(ctx context.Context) (map[string]string, error) {
	plans := map[string]string{}
	err := s.write(ctx, "explain", func(within context.Context, t *tx) error {
		t.simple = true
		if err := t.exec(within, "SELECT"); err != nil { // with the settings
			return err
		}
		for name, text := range map[string]string{
			"insertFresh": insertFresh, "insertLabels": insertLabels, "saveLive": saveLive, "saveEnd": saveEnd, "whyRefused": whyRefused,
			"dropEdges": dropEdges, "markEdges": markEdges, "callbacksDone": callbacksDone, "callbacksWait": callbacksWait,
			"addCounts": addCounts, "addBatchCounts": addBatchCounts, "addVolumes": addVolumes, "sign": signWriter,
		} {
			most := 0
			for _, number := range regexp.MustCompile(`\$(\d+)`).FindAllStringSubmatch(text, -1) {
				n, err := strconv.Atoi(number[1])
				if err != nil {
					return err
				}
				most = max(most, n)
			}
			nulls := strings.TrimSuffix(strings.Repeat("NULL, ", most), ", ")
			prepared := "kept_" + strings.ToLower(name)
			rows, err := t.conn.Conn().PgConn().Exec(within, "PREPARE "+prepared+" AS "+text+"; EXPLAIN EXECUTE "+prepared+"("+nulls+")").ReadAll()
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			for _, line := range rows[len(rows)-1].Rows {
				plans[name] += string(line[0]) + "\n"
			}
		}
		return nil
	})
	return plans, err
}
