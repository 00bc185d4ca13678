"""What survives a restart: rows (pure), SQLite with group commit, and the same interface without a disk."""
