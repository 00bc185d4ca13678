"""The quorum inside an agent: who votes, committed blocks for everybody, and the way of an entry to the leader.

quorum       Raft and the certified chain behind one door, as `mesh.swim` and `mesh.sync` are
spread       blocks and proofs to every agent, pushed and pulled
courier      entries to the leader, until they are in the log or refused
messages     the bytes of all that; Raft's own are in `consensus_escalation.wire`
rows         what has to be on the disk, and when
"""
