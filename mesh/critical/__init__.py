"""Critical writes as programs use them: awaited, agreed by a majority, proven.

clerk     everybody who waits for the quorum, and how their waiting ends: a receipt, a definite no, or unknown
handle    `node.critical(path)`: set, compare_and_set, delete, get
lease     `node.lease(path, ttl)`: renewed while the block lasts; whoever loses it is told before anybody else can have it
judges    who says yes or no to what the rules leave open
proof     receipts and decision ledgers as files, for anybody who knows the authority
"""
