-- Every delete that a run sends is covered by an approval, however it was agreed to.

-- Which jobs of a run an approval is about. 'plan': it covers all that the run sends, and the run
-- sends nothing else. 'deletes': it covers the run's deletes; other jobs need none.
ALTER TABLE approvals ADD COLUMN covers TEXT NOT NULL DEFAULT 'plan' CHECK (covers IN ('plan', 'deletes'));
-- How many of its jobs it covers no longer, since they were retried or approved again.
ALTER TABLE approvals ADD COLUMN uncovered INTEGER NOT NULL DEFAULT 0 CHECK (uncovered >= 0);
