"""Agent-Raft: the embedded quorum for the few writes that must never conflict."""
