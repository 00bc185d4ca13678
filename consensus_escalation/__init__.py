"""Agent-Raft: the embedded quorum for the few writes that must never conflict.

    input, now  -->  Raft.step  -->  effects            consensus_escalation.raft puts the parts together

    block         what the log is made of: signed headers, entries
    log           the blocks of one voter, their configurations
    quorum        who has to agree: a majority, joint majorities
    ledger        what committed entries say about the quorum itself: scores, demotions, sessions
    election      terms, votes, PreVote, campaigns staggered by rank
    replication   blocks to the followers, acknowledgements, commit
    checkquorum   a leader without a quorum falls silent
    handback      leadership goes back to the best, seldom
    membership    one voter grows to three and five, the dead are replaced
    reads         linearizable, by one round of answers
    snapshot      what stands for the beginning of the log, in pieces
    sessions      exactly once, by (author, since, number)
    certificate   proof of commitment for anyone who knows the voters
    verdict       the dangerous class, endorsed before it is appended; docket: the open proposals of a voter
    impeachment   proofs that a leader must go
    machine       the replicated state: cells, compare-and-set, leases, and the outcome of every entry
    command       what clients ask of it, and the thought behind it
    leases        who holds what, under which fencing token
    policy        the rules by which entries are judged; rules/ holds the shipped set
    expression    predicates in a small part of Python, with a budget of steps
    hazards       destructive commands: shell, SQL, safety systems

The log is plain Raft (Ongaro's dissertation); what agents add stands beside it and never decides what is committed. Everything is
pure: no clock, no disk, no network, no randomness but the generator that is handed in. `effects` says what must be durable
before what is sent.
"""
