package orms

import (
	"context"

	"gorm.io/gorm"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// GORMStep is a row of the service's own table.
type GORMStep struct {
	ID    int
	RunID string `gorm:"unique"`
	State string
}

// TableName lets all four examples share a table.
func (GORMStep) TableName() string { return "steps" }

// AcknowledgeGORM works with PrepareStmt, too: then the hook's statement is prepared like GORM's own.
func AcknowledgeGORM(ctx context.Context, db *gorm.DB, terminal hook.TerminalHook, outcome outbox.RunOutcome) error {
	return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		step := tx.Model(&GORMStep{}).Where("run_id = ? AND state = ?", outcome.RunID, "ready").Update("state", "done")
		if step.Error != nil {
			return step.Error
		}
		if step.RowsAffected != 1 {
			return errNotReady
		}
		return terminal.OnTermination(ctx, outbox.ExecTx(tx.Statement.ConnPool), outcome) // an error rolls both back
	})
}
