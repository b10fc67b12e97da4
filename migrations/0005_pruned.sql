-- A batch whose jobs were dropped keeps its row: the same manifest is known by its digest, so
-- that a command line that is run every night does not begin it all again.
ALTER TABLE batches ADD COLUMN pruned_ms INTEGER CHECK (pruned_ms >= 0);
